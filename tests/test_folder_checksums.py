"""Folders with a list of checksums: a file that is not what was written is named before it is loaded."""

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmdiff import folder_checksums
from llmdiff.errors import LLMDiffError
from llmdiff.generation import load_pipeline
from llmdiff.language import LanguageModel
from llmdiff.models import shipped_base
from tiny_base import Places


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "part").mkdir()
    (tmp_path / "config.json").write_text('{"a": 1}')
    (tmp_path / "part" / "weights").write_bytes(bytes(range(200)))
    (tmp_path / "README.md").write_text("a card")
    folder_checksums.sign(tmp_path)
    return tmp_path


@pytest.mark.fault("checksum")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["config.json", "part/weights"]), place=st.integers(0, 199), flip=st.integers(1, 255))
def test_a_changed_byte_is_found(folder: Path, name: str, place: int, flip: int) -> None:
    assert folder_checksums.damaged(folder) is None
    whole = (folder / name).read_bytes()
    content = bytearray(whole)
    content[place % len(whole)] ^= flip
    (folder / name).write_bytes(content)
    assert folder_checksums.damaged(folder) == name
    assert folder_checksums.damaged(folder, whole=True) == name
    (folder / name).write_bytes(whole)


def test_a_missing_file_a_damaged_list_and_no_list(folder: Path) -> None:
    (folder / "README.md").write_text("another card")
    assert folder_checksums.damaged(folder) is None
    (folder / "part" / "weights").unlink()
    assert folder_checksums.damaged(folder) == "part/weights"
    for content in ("[1]", "{", '{"config.json": 3}', "[[]]"):
        (folder / folder_checksums.NAME).write_text(content)
        assert folder_checksums.damaged(folder) is not None
    (folder / folder_checksums.NAME).unlink()
    folder_checksums.check(folder, "there is nothing to check")


@pytest.mark.fault("checksum")
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_changed_byte_of_the_shipped_base_is_named(tmp_path: Path, part: str) -> None:
    copy = tmp_path / "base"
    shutil.copytree(shipped_base(), copy)
    (path,) = (copy / part).glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-99] ^= 1
    path.write_bytes(content)
    with pytest.raises(LLMDiffError, match=rf"The file {path} is damaged, .* delete its checksums\.json\.$"):
        load_pipeline(copy)
    (copy / folder_checksums.NAME).unlink()
    load_pipeline(copy)


@pytest.mark.fault("checksum")
def test_a_changed_byte_of_an_llm_with_a_list_is_named(tmp_path: Path, places: Places) -> None:
    copy = tmp_path / "llm"
    shutil.copytree(places.llm, copy)
    folder_checksums.sign(copy)
    assert LanguageModel.load(str(copy)).width == 32
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-99] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(LLMDiffError, match="is damaged"):
        LanguageModel.load(str(copy))
