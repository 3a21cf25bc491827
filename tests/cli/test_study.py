import json
from pathlib import Path

from typer.testing import CliRunner

from llmdiff.cli.app import app
from llmdiff.study import Study
from llmdiff.study.votes import Votes
from study.pictures import picture_folder
from study.raters import prefers, rate

runner = CliRunner()


def call(*arguments: object) -> str:
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.stdout


def test_from_folders_of_pictures_to_a_report(tmp_path: Path) -> None:
    folders = [f"{name}={picture_folder(tmp_path / name, name, 8)}" for name in ("red", "blue")]
    folder = tmp_path / "study"
    told = call("study", "new", folder, "--pictures", folders[0], "--pictures", folders[1], "--title", "Red or blue?")
    assert "8 pairs of 2 systems" in told
    votes = Votes(Study.load(folder))
    for number in range(4):
        rate(Study.load(folder), votes, f"{number:032x}", prefers("red", 0.95), 1)
    votes.close()
    report = json.loads(call("study", "report", folder, "--json"))
    assert [one["verdict"] for one in report["comparisons"]] == ["red", "red"]
    assert "red is preferred to blue" in call("study", "report", folder, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "report.html").is_file()
    call("study", "export", folder, "--out", tmp_path / "page.html")
    assert "Red or blue?" in (tmp_path / "page.html").read_text()


def test_mistakes_on_the_command_line_are_told(tmp_path: Path) -> None:
    assert runner.invoke(app, ["study", "new", str(tmp_path / "s")]).exit_code == 2
    assert runner.invoke(app, ["study", "new", str(tmp_path / "s"), "--pictures", "red"]).exit_code == 2
    result = runner.invoke(app, ["study", "report", str(tmp_path / "none")])
    assert "There is no study" in str(result.exception)
