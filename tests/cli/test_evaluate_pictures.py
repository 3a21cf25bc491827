import json
from pathlib import Path

from typer.testing import CliRunner

from llmdiff.cli.app import app
from study.pictures import picture_folder
from tiny_similarity import save_similarity

runner = CliRunner()


def test_folders_are_scored_and_named(tmp_path: Path) -> None:
    siglip = save_similarity(tmp_path / "siglip", "siglip")
    for name in ("red", "blue"):
        picture_folder(tmp_path / name, name, 3)
    command = ["evaluate", "pictures", f"mine={tmp_path / 'red'}", str(tmp_path / "blue"), "--siglip", siglip]
    result = runner.invoke(app, [*command, "--json"])
    assert [row["system"] for row in json.loads(result.stdout)] == ["mine", "blue", "blue - mine"]
    shown = runner.invoke(app, command).stdout
    assert "blue - mine" in shown
    assert siglip in shown.replace("\n", "")
    assert runner.invoke(app, ["evaluate", "pictures", str(tmp_path / "red"), str(tmp_path / "red")]).exit_code == 2
