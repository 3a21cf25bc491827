"""Findings are what the result files say, recomputed here in plain numpy, and a part of a grid is told as such."""

import io
import json
import shutil
import sys
from itertools import product
from typing import Any

import numpy as np
import pytest
from PIL import Image

from llmdiff.cli.app import run as command_line
from llmdiff.comparison import ComparisonConfig, read_findings, report, write_report
from llmdiff.comparison.cells import Cell, cells
from llmdiff.comparison.document import Heading, Paragraph, Picture, Table, markdown, page
from llmdiff.comparison.notes import read_note, write_note
from llmdiff.comparison.run import compare, picture_key, screen_key
from llmdiff.errors import LLMDiffError
from llmdiff.evaluation.bootstrap import crossed_interval

WORDINGS, THINGS, TIMESTEPS, SCENES = ("plain", "natural"), (1, 2, 3), (700, 500), 12
COMMAND = "llmdiff compare study.yaml"


def write_result(config: ComparisonConfig, cell: Cell, mean: float, spread: float = 0.05) -> None:
    """A result like that of a training, with distances about a mean; scenes are as hard for all conditions."""
    own = np.random.default_rng((cell.seed, len(cell.condition)))
    distances = []
    for things, wording, timestep in product(THINGS, WORDINGS, TIMESTEPS):
        hard = np.random.default_rng((things, 7)).normal(0, 0.3, SCENES)
        values = mean + 0.02 * cell.seed + hard + own.normal(0, spread, SCENES) + (wording == "natural") * 0.1
        distances.append({"things": things, "wording": wording, "timestep": timestep, "distances": values.tolist()})
    write_note(cell.result, {"screen": screen_key(config), "parameters": 1234, "distances": distances})


@pytest.fixture
def config(make) -> ComparisonConfig:
    readings = {name: {"changes": {"reading.extraction": name}} for name in ("last", "mean", "weighted")}
    names = {"llmdiff": {"about": "the paper's"}} | readings
    claims = [{"say": f"Better than {name}", "better": "llmdiff", "than": name} for name in names if name != "llmdiff"]
    return make(conditions=names, claims=claims, seeds=[0, 1, 2])


def fill(config: ComparisonConfig, means: dict[str, float], seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    for cell in cells(config):
        if cell.condition in means and cell.seed in seeds:
            write_result(config, cell, means[cell.condition])


def by_scene(cell: Cell) -> np.ndarray:
    rows = read_note(cell.result)["distances"]
    return np.array([
        np.mean([row["distances"][i] for row in rows if row["things"] == things])
        for things in THINGS for i in range(SCENES)
    ])  # fmt: skip


def test_numbers_and_verdicts_are_those_of_the_result_files(config):
    fill(config, {"llmdiff": 0.3, "last": 0.5, "mean": 0.1, "weighted": 0.3})
    found = read_findings(config)
    assert (found.done, found.total, found.is_whole) == (12, 12, True)
    rows = {row.condition: row for row in found.rows}
    for name, row in rows.items():
        values = np.stack([by_scene(cell) for cell in cells(config) if cell.condition == name])
        assert row.distance.mean == pytest.approx(values.mean())
        assert (row.distance.low, row.distance.high) == pytest.approx(crossed_interval(values))
        assert row.distance.low < row.distance.mean < row.distance.high
        assert row.by_wording["natural"].mean - row.by_wording["plain"].mean == pytest.approx(0.1, abs=0.03)
        reference = np.stack([by_scene(cell) for cell in cells(config) if cell.condition == "llmdiff"])
        if name != "llmdiff":
            assert row.difference.mean == pytest.approx((values - reference).mean())
            assert (row.difference.low, row.difference.high) == pytest.approx(crossed_interval(values - reference))
    assert {name: row.verdict for name, row in rows.items() if name != "llmdiff"} == {
        "last": "farther", "mean": "closer", "weighted": "undecided",
    }  # fmt: skip
    assert [one.word for one in found.claims] == ["holds", "does not hold: the contrary does", "undecided"]


def test_a_claim_may_be_about_one_wording(config):
    claims = [{"say": "", "better": "mean", "than": "last", "wording": one} for one in (None, "plain", "natural")]
    config = ComparisonConfig.make(**config.model_dump() | {"claims": claims})
    fill(config, {"last": 0.5, "mean": 0.1}, seeds=(0, 1))
    for claim, found in zip(claims, read_findings(config).claims, strict=True):
        values = []
        for name in ("mean", "last"):
            there = [cell for cell in cells(config) if cell.condition == name and cell.seed < 2]
            rows = [read_note(cell.result)["distances"] for cell in there]
            chosen = [[row["distances"] for row in of if claim["wording"] in (None, row["wording"])] for of in rows]
            values.append(np.mean(chosen))
        assert found.difference.mean == pytest.approx(values[0] - values[1])
    with pytest.raises(LLMDiffError, match="wording"):
        ComparisonConfig.make(**config.model_dump() | {"claims": [claims[0] | {"wording": "odd"}]})


def test_of_a_part_only_what_both_have_is_compared_and_one_seed_proves_nothing(config):
    fill(config, {"llmdiff": 0.3, "last": 0.5}, seeds=(0, 1))
    fill(config, {"mean": 0.1}, seeds=(1,))
    fill(config, {"weighted": 0.3}, seeds=(2,))
    found = read_findings(config)
    assert (found.done, found.total, found.is_whole) == (6, 12, False)
    rows = {row.condition: row for row in found.rows}
    assert (rows["last"].seeds, rows["last"].verdict) == ((0, 1), "farther")
    assert (rows["mean"].seeds, rows["mean"].verdict) == ((1,), "too few seeds")
    assert (rows["weighted"].difference, rows["weighted"].verdict) == (None, "not measured")
    assert [one.seeds for one in found.claims] == [2, 1, 0]
    one = np.stack([by_scene(c) for c in cells(config) if c.seed == 1 and c.condition in ("mean", "llmdiff")])
    assert rows["mean"].difference.mean == pytest.approx(float((one[1] - one[0]).mean()))


def test_results_of_other_settings_or_damaged_ones_do_not_count(config):
    fill(config, {"llmdiff": 0.3, "last": 0.5})
    other = config.model_copy(update={"screen": config.screen.model_copy(update={"scenes": 9})})
    assert read_findings(other).done == 0
    cell = cells(config)[0]
    cell.result.write_bytes(cell.result.read_bytes().replace(b"0.3", b"0.2", 1))
    with pytest.warns(UserWarning, match="is damaged"):
        assert read_findings(config).done == 5


def write_pictures(config: ComparisonConfig, path: Any, right: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    prompts = [
        {"group": "plain", "prompt": str(i), "right": float(rng.random() < right), "facts": right} for i in range(40)
    ]
    write_note(path, {"pictures": picture_key(config), "prompts": prompts})


def test_pictures_are_compared_with_the_base_prompt_by_prompt(config):
    config = config.model_copy(update={"pictures": config.pictures.model_copy(update={"conditions": ("last",)})})
    assert read_findings(config).drawn == ()
    write_pictures(config, config.folder / "base" / "pictures.json", 0.3, 0)
    for cell in cells(config):
        if cell.condition == "last" and cell.seed < 2:
            write_pictures(config, cell.pictures, 0.9, 1 + cell.seed)
    base, last = read_findings(config).drawn
    assert (base.condition, base.gain, last.condition, last.seeds) == ("base", None, "last", (0, 1))
    assert last.gain.mean == pytest.approx(last.share.mean - base.share.mean)
    assert last.gain.low > 0
    assert last.facts.mean == pytest.approx(0.9)


def sheet_columns(config: ComparisonConfig) -> int:
    """Columns of the sheet in the report, of pictures of 8 pixels."""
    png = next((block.png for block in report._pictures(read_findings(config)) if isinstance(block, Picture)), None)
    if png is None:
        return 0
    colours = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    return sum(bool((colours == shade).all(1).any()) for shade in SHADES)


SHADES = ((250, 0, 250), (0, 250, 250), (120, 0, 60))


def test_a_sheet_has_the_pictures_that_are_there_and_of_these_prompts_alone(config):
    sheet = config.pictures.model_copy(update={"conditions": ("last", "mean"), "sheet": ("a red ball", "a cup")})
    config = config.model_copy(update={"pictures": sheet})
    write_pictures(config, config.folder / "base" / "pictures.json", 0.3, 0)
    folders = [config.folder / "base"]
    for cell in cells(config):
        if cell.condition in ("last", "mean") and cell.seed == 0:
            write_pictures(config, cell.pictures, 0.9, 1)
            folders.append(cell.folder)
    for folder, shade in zip(folders, SHADES, strict=True):
        for number in range(2):
            Image.new("RGB", (8, 8), shade).save(folder / f"sheet-{number}.png")
    assert sheet_columns(config) == 3
    other = config.model_copy(update={"pictures": sheet.model_copy(update={"sheet": ("a star", "a boat")})})
    assert sheet_columns(other) == 0, "what was drawn of other prompts is not shown under these"
    write_pictures(other, other.folder / "base" / "pictures.json", 0.3, 0)
    assert sheet_columns(other) == 1, "nor beside the base, which is drawn first"
    write_pictures(config, config.folder / "base" / "pictures.json", 0.3, 0)
    (folders[1] / "sheet-1.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"without .*last"):
        assert sheet_columns(config) == 2
    (folders[2] / "sheet-1.png").unlink()
    with pytest.warns(UserWarning, match=r"without .*mean"):
        assert sheet_columns(config) == 1


def test_the_report_says_what_was_found_in_three_forms(config, tmp_path):
    config = config.model_copy(update={"notes": ("There is no T5.",)})
    fill(config, {"llmdiff": 0.3, "last": 0.5}, seeds=(0, 1))
    found = read_findings(config)
    document = tmp_path / "docs" / "comparison.md"
    written = write_report(found, COMMAND, document)
    folder = config.folder / "report"
    assert {folder / name for name in ("report.md", "report.html", "report.json", "distances.png")} <= set(written)
    text = document.read_text("utf-8")
    last = next(row for row in found.rows if row.condition == "last")
    figures = f"{last.difference.mean:+.3f} ({last.difference.low:+.3f} to {last.difference.high:+.3f})"
    assert "**PARTIAL: 4 of 12 cells are done." in text
    assert figures in text
    assert figures in (folder / "report.html").read_text("utf-8")
    assert COMMAND in text
    assert "\nThere is no T5.\n" in text
    assert "![Distances with their intervals](images/comparison-distances.png)" in text
    assert (tmp_path / "docs" / "images" / "comparison-distances.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64," in (folder / "report.html").read_text("utf-8")
    content = json.loads((folder / "report.json").read_text("utf-8"))
    assert content["rows"][1]["difference"]["mean"] == pytest.approx(last.difference.mean)
    assert [one["verdict"] for one in content["claims"]] == ["holds", "not measured", "not measured"]
    fill(config, dict.fromkeys(config.conditions, 0.3))
    write_report(read_findings(config), COMMAND)
    assert "PARTIAL" not in (folder / "report.md").read_text("utf-8")


def test_without_any_result_there_is_a_report_that_says_so(config):
    write_report(read_findings(config), COMMAND)
    assert "PARTIAL: 0 of 12" in (config.folder / "report" / "report.md").read_text("utf-8")


def test_without_matplotlib_the_sentence_says_what_to_install(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(LLMDiffError, match=r"llmdiff-adapter\[plot\]"):
        write_report(read_findings(config), COMMAND)


def test_a_document_escapes_what_it_is_told():
    blocks = [Heading("A & B", 1), Paragraph("<b>", strong=True), Table([["a|b", "c"], ["<i>", "d"]])]
    assert markdown(blocks) == "# A & B\n\n**<b>**\n\n| a\\|b | c |\n| --- | --- |\n| <i> | d |\n"
    html = page("A", blocks)
    assert "<h1>A &amp; B</h1>" in html
    assert "<td>&lt;i&gt;</td>" in html


def test_the_command_reports_and_draws_and_goes_on(done, tmp_path, capsys, monkeypatch):
    """The whole of it on tiny models: cells that are done, pictures that are not, and the report."""
    monkeypatch.setenv("COLUMNS", "200")
    shutil.copytree(done.folder, tmp_path / "copy")
    settings = json.loads(done.model_dump_json()) | {"folder": str(tmp_path / "copy")}
    settings["pictures"] = {"conditions": ["last"], "limit": 1, "steps": 2, "sheet": ["a red ball"]}
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(settings))
    assert command_line(["compare", str(path), "--report", "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert (before["done"], before["pictures"]) == (4, [])
    assert command_line(["compare", str(path)]) == 0
    told = capsys.readouterr().out
    assert "4 of 4 cells are done" in told
    assert [line.split()[-1] for line in told.splitlines() if line.startswith(" llmdiff ")] == ["reference"]
    assert (tmp_path / "copy" / "report" / "sheet.png").is_file()
    config = ComparisonConfig.read(path)
    assert [one.condition for one in read_findings(config).drawn] == ["base", "last"]
    pictures = {file: file.stat().st_mtime_ns for file in config.folder.rglob("pictures.json")}
    assert len(pictures) == 3
    compare(config)
    assert {file: file.stat().st_mtime_ns for file in config.folder.rglob("pictures.json")} == pictures
