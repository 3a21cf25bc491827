"""Adapters on disk and on the Hub: round trips, the exact keys, and every way in which a file can be wrong."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import llmdiff
from adapter.tiny import build_sd, draw, perturb
from llmdiff.adapter import AdapterConfig, LLMDiffAdapter, storage
from llmdiff.errors import LLMDiffError
from llmdiff.language import ExtractionConfig, LanguageModel

LAYERS = [
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2",
    "mid_block.attentions.0.transformer_blocks.0.attn2",
    "up_blocks.1.attentions.0.transformer_blocks.0.attn2",
    "up_blocks.1.attentions.1.transformer_blocks.0.attn2",
]
TEXT_ENCODING = {"text_encoding.g", "text_encoding.raw_h", "text_encoding.norm.weight", "text_encoding.norm.bias"}

REDRAW = """
import sys
sys.path[:0] = [sys.argv[1]]
import torch
from adapter.tiny import build_sd, draw
from llmdiff.adapter import LLMDiffAdapter
from safetensors.torch import save_file
pipe = build_sd()
LLMDiffAdapter.from_pretrained(sys.argv[2], llm=sys.argv[4]).attach(pipe)
save_file({"picture": draw(pipe, negative_prompt="blue")}, sys.argv[3])
"""


@pytest.fixture
def saved(sd, make_adapter, tmp_path) -> Path:
    """A folder with a perturbed adapter."""
    perturb(make_adapter(sd, mode="replace")).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def save_llm(llm: LanguageModel, folder: Path) -> str:
    llm.model.save_pretrained(folder)
    llm.tokenizer.save_pretrained(folder)
    return str(folder)


def other_llm(llm: LanguageModel, **changes) -> LanguageModel:
    """A new random LLM of the same family."""
    config = type(llm.model.config)(**llm.model.config.to_dict() | changes)
    torch.manual_seed(1)
    return LanguageModel.from_model(type(llm.model)(config), llm.tokenizer, name="other")


def edit_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text()) | changes
    content.pop("crc32", None)  # as who edits it is told to
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("mode", "gate", "shared"),
    [("augment", {"a2", "b2"}, set()), ("replace", {"a1", "b1", "a2", "b2"}, {"phi.weight", "phi.bias"})],
)
def test_the_saved_keys_are_module_paths(sd, make_adapter, tmp_path, mode, gate, shared):
    make_adapter(sd, mode=mode).attach(sd).save_pretrained(tmp_path)
    names = {"query.weight", "key.weight", "value.weight", *(f"gate.{scalar}" for scalar in gate)}
    branches = {f"branches.{layer}.{name}" for layer in LAYERS for name in names}
    assert load_file(tmp_path / "adapter.safetensors").keys() == branches | TEXT_ENCODING | shared
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "adapter.safetensors", "README.md"}


@pytest.mark.slow  # the command line shows the same in a fast test
def test_a_new_process_draws_the_same_picture(sd, make_adapter, tiny_llm, tmp_path):
    adapter = perturb(make_adapter(sd, mode="replace", reading=ExtractionConfig(template="Describe: {prompt}"))).attach(
        sd
    )
    adapter.save_pretrained(tmp_path / "adapter")
    arguments = [str(Path(__file__).parents[1]), str(tmp_path / "adapter"), str(tmp_path / "picture.safetensors")]
    arguments.append(save_llm(tiny_llm, tmp_path / "llm"))
    subprocess.run([sys.executable, "-c", REDRAW, *arguments], check=True, capture_output=True)
    assert torch.equal(load_file(arguments[2])["picture"], draw(sd, negative_prompt="blue"))


def test_a_round_trip_keeps_every_weight_and_the_config(sd, saved, tiny_llm, make_adapter):
    original = perturb(make_adapter(sd, mode="replace"))
    loaded = LLMDiffAdapter.from_pretrained(saved, llm=tiny_llm)
    assert loaded.config == original.config
    assert loaded.config.version == llmdiff.__version__
    assert not loaded.training
    assert all(torch.equal(loaded.state_dict()[name], weight) for name, weight in original.state_dict().items())
    assert LLMDiffAdapter.from_pretrained(saved, llm=tiny_llm, dtype=torch.bfloat16).phi.weight.dtype == torch.bfloat16


def test_the_llm_it_was_trained_with_is_loaded_by_default(saved, tiny_llm, monkeypatch):
    asked = []

    def load(name, **options):
        asked.append((name, options["dtype"]))
        return tiny_llm

    monkeypatch.setattr(LanguageModel, "load", load)
    assert LLMDiffAdapter.from_pretrained(saved).llm is tiny_llm
    LLMDiffAdapter.from_pretrained(saved, llm="another/copy")
    assert asked == [("tiny-llama", torch.float32), ("another/copy", torch.float32)]


def test_saving_over_an_adapter_never_leaves_half_a_file(saved, sd, make_adapter, monkeypatch):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(LLMDiffError, match="No space left"):
        make_adapter(sd, mode="replace").save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_the_card_says_what_it_is_for_without_local_paths(sd, make_adapter, tmp_path):
    sd.register_to_config(_name_or_path="someone/a-base")
    make_adapter(sd).save_pretrained(tmp_path / "a")
    card = ModelCard.load(tmp_path / "a" / "README.md")
    assert card.data.base_model == "someone/a-base"
    assert card.data.to_dict()["library_name"] == "llmdiff"
    for fact in ("someone/a-base", "tiny-llama", "`augment`", "extraction `llmdiff`", llmdiff.__version__):
        assert fact in card.text
    sd.register_to_config(_name_or_path=str(tmp_path / "secret" / "my-base"))
    make_adapter(sd).save_pretrained(tmp_path / "b")
    text = (tmp_path / "b" / "README.md").read_text()
    assert "my-base" in text
    assert "secret" not in text


def test_push_uploads_what_save_writes(saved, sd, make_adapter, monkeypatch):
    uploads = []

    class FakeApi:
        def __init__(self, token=None):
            self.token = token

        def create_repo(self, repo_id, *, private, exist_ok):
            uploads.append((repo_id, self.token, private, exist_ok))
            return SimpleNamespace(repo_id=f"me/{repo_id}")

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            uploads.append((repo_id, {p.name: p.read_bytes() for p in Path(folder_path).iterdir()}, commit_message))
            return SimpleNamespace(commit_url="https://hub/commit")

    monkeypatch.setattr(storage, "HfApi", FakeApi)
    adapter = perturb(make_adapter(sd, mode="replace"))
    assert adapter.push_to_hub("mine", private=True, token="t", commit_message="First") == "https://hub/commit"
    files = {path.name: path.read_bytes() for path in saved.iterdir()}
    assert uploads == [("mine", "t", True, True), ("me/mine", files, "First")]


def test_the_hub_is_asked_for_what_is_no_folder(saved, tiny_llm, monkeypatch):
    asked = []

    def fetch(name, *, revision, allow_patterns):
        asked.append((name, revision, allow_patterns))
        return str(saved)

    monkeypatch.setattr(storage, "snapshot_download", fetch)
    LLMDiffAdapter.from_pretrained("me/mine", llm=tiny_llm, revision="v1")
    assert asked == [("me/mine", "v1", ["config.json", "adapter.safetensors"])]


@pytest.mark.parametrize("name", ["./not/there/at/all", "with spaces"])
def test_a_name_that_is_nothing(name, tiny_llm):
    with pytest.raises(LLMDiffError, match="There is no adapter at"):
        LLMDiffAdapter.from_pretrained(name, llm=tiny_llm)


@pytest.mark.parametrize("name", ["config.json", "adapter.safetensors"])
def test_a_missing_file_is_named(saved, tiny_llm, name):
    (saved / name).unlink()
    with pytest.raises(LLMDiffError, match=f"no {name} in it"):
        LLMDiffAdapter.from_pretrained(saved, llm=tiny_llm)


@pytest.mark.parametrize("damage", [lambda b: b[:100], lambda b: b[:-10], lambda b: b"", lambda b: b"\xff" * len(b)])
def test_a_damaged_weight_file(saved, tiny_llm, damage):
    path = saved / "adapter.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LLMDiffError, match="damaged or incomplete"):
        LLMDiffAdapter.from_pretrained(saved, llm=tiny_llm)


def drop(weights):
    del weights["phi.weight"]


def add(weights):
    weights["phi.extra"] = torch.zeros(1)


def reshape(weights):
    weights["phi.bias"] = torch.zeros(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [(drop, "lacks phi.weight"), (add, "unknown phi.extra"), (reshape, r"phi.bias has the shape \(3,\), not \(24,\)")],
)
def test_weights_that_do_not_fit_the_config(saved, tiny_llm, change, message):
    weights = load_file(saved / "adapter.safetensors")
    change(weights)
    save_file(weights, saved / "adapter.safetensors")
    with pytest.raises(LLMDiffError, match=message):
        LLMDiffAdapter.from_pretrained(saved, llm=tiny_llm)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not usable JSON"),
        ("[]", "not usable: input should be"),
        ("{}", "not usable: the key 'llm' is missing"),
        ('{"llm": {}, "base": {"denoiser": "U", "layers": {}}}', "base.layers"),
    ],
)
def test_a_config_that_is_none(saved, tiny_llm, text, message):
    (saved / "config.json").write_text(text)
    with pytest.raises(LLMDiffError, match=message):
        LLMDiffAdapter.from_pretrained(saved, llm=tiny_llm)


def test_unknown_keys_of_a_newer_version_are_dropped_with_a_warning(saved, tiny_llm):
    config = json.loads((saved / "config.json").read_text())
    config["base"]["layers"][LAYERS[0]]["rotary"] = True
    edit_config(saved, future=1, reading=config["reading"] | {"colour": "red"}, base=config["base"])
    with pytest.warns(UserWarning, match=r"(?s)future.*Upgrade llmdiff-adapter") as caught:
        loaded = LLMDiffAdapter.from_pretrained(saved, llm=tiny_llm)
    assert all(key in str(caught[0].message) for key in ("future", "reading.colour", f"base.layers.{LAYERS[0]}.rotary"))
    assert loaded.config.mode == "replace"


@pytest.mark.parametrize(("blocks", "width"), [(5, 32), (4, 48)])
def test_an_llm_of_another_shape_is_refused(saved, tiny_llm, blocks, width):
    with pytest.raises(LLMDiffError, match=rf"4 blocks of width 32.*{blocks} blocks of width {width}"):
        LLMDiffAdapter.from_pretrained(saved, llm=other_llm(tiny_llm, num_hidden_layers=blocks, hidden_size=width))


def test_another_llm_of_the_same_shape_is_warned_of_with_both_values(saved, tiny_llm):
    other = other_llm(tiny_llm)
    with pytest.warns(UserWarning, match=tiny_llm.identity()["fingerprint"]) as caught:
        LLMDiffAdapter.from_pretrained(saved, llm=other)
    assert other.identity()["fingerprint"] in str(caught[0].message)
    edit_config(saved, llm=tiny_llm.identity() | {"dtype": "bfloat16"})
    with pytest.warns(UserWarning, match=r"bfloat16.*float32"):
        LLMDiffAdapter.from_pretrained(saved, llm=tiny_llm)


def test_an_llm_of_another_type_is_refused_though_its_shape_fits(saved, tiny_llm):
    edit_config(saved, llm=tiny_llm.identity() | {"type": "qwen3"})
    with pytest.raises(LLMDiffError, match=r"of type qwen3.*of type llama.*does not fit"):
        LLMDiffAdapter.from_pretrained(saved, llm=tiny_llm)


def test_another_quantisation_is_one_warning_with_both_values(saved, tiny_llm):
    edit_config(saved, llm=tiny_llm.identity() | {"quantization": "int8", "fingerprint": "0"})
    with pytest.warns(UserWarning, match=r"quantization int8.*quantization None") as caught:
        LLMDiffAdapter.from_pretrained(saved, llm=tiny_llm)
    assert len(caught) == 1


def test_a_quantisation_is_that_of_an_llm_loaded_here(saved, tiny_llm, monkeypatch):
    asked: dict[str, Any] = {}
    monkeypatch.setattr(LanguageModel, "load", lambda name, **options: asked.update(options, name=name) or tiny_llm)
    for recorded, asked_for, expected in ((None, None, None), ("int8", None, "int8"), ("int8", "4bit", "4bit")):
        edit_config(saved, llm=tiny_llm.identity() | {"quantization": recorded})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            LLMDiffAdapter.from_pretrained(saved, quantization=asked_for)
        assert asked["quantization"] == expected
    with pytest.raises(LLMDiffError, match=r"loaded already: load it with quantization='4bit'"):
        LLMDiffAdapter.from_pretrained(saved, llm=tiny_llm, quantization="4bit")


def test_a_record_of_before_types_were_noted_is_read(saved, tiny_llm, recwarn):
    old = {key: value for key, value in tiny_llm.identity().items() if key not in ("type", "quantization")}
    edit_config(saved, llm=old)
    LLMDiffAdapter.from_pretrained(saved, llm=tiny_llm)
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]


def test_a_copy_under_another_name_is_no_concern(saved, tiny_llm, recwarn):
    copy = LanguageModel.from_model(tiny_llm.model, tiny_llm.tokenizer, name="a local copy")
    LLMDiffAdapter.from_pretrained(saved, llm=copy)
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]


@pytest.mark.fault("checksum")
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["config.json", "adapter.safetensors"]), place=st.floats(0, 1), flip=st.integers(1, 255))
def test_a_changed_byte_anywhere_is_found_or_changes_nothing(saved, name, place, flip):
    path = saved / name
    whole, config, weights = path.read_bytes(), storage.read_config(saved), storage.read_weights(saved)
    content = bytearray(whole)
    content[int(place * (len(whole) - 1))] ^= flip
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a key that is not known, where the checksum's name was hit
            assert storage.read_config(saved) == config
            found = storage.read_weights(saved)
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[key], weight) for key, weight in weights.items())
    except LLMDiffError as error:
        said = str(error)
    else:
        said = name
    path.write_bytes(whole)
    assert name in said


@pytest.mark.fault("checksum")
def test_every_changed_digit_of_a_config_is_named_with_what_to_do(saved):
    path = saved / "config.json"
    path.write_text(path.read_text().replace('"max_tokens": 256', '"max_tokens": 257'))
    with pytest.raises(LLMDiffError, match=r"config\.json is not what was written: fetch it again or, .*'crc32'\.$"):
        storage.read_config(saved)
    edit_config(saved)
    assert storage.read_config(saved).reading.max_tokens == 257


def test_the_config_round_trips_through_json(sd, make_adapter, mode):
    config = make_adapter(sd, mode=mode).config
    assert AdapterConfig.from_json(config.model_dump_json()) == config
    assert config.base.denoiser == "UNet2DConditionModel"
    assert sorted(config.base.layers) == LAYERS


def test_saving_in_half_precision_and_attaching_again(make_adapter, tiny_llm, tmp_path):
    pipe = build_sd()
    pipe.unet.half()
    adapter = perturb(make_adapter(pipe)).attach(pipe)
    adapter.save_pretrained(tmp_path)
    adapter.detach()
    again = LLMDiffAdapter.from_pretrained(tmp_path, llm=tiny_llm).attach(pipe)
    assert all(torch.equal(again.state_dict()[name], weight) for name, weight in adapter.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_not_saved(saved, sd, make_adapter, value):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    adapter = make_adapter(sd, mode="replace")
    with torch.no_grad():
        adapter.phi.bias[3] = value
    with pytest.raises(LLMDiffError, match=r"not saved, since its phi.bias is not finite: go back to a checkpoint"):
        adapter.save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_what_would_not_load_again_is_not_saved(saved, sd, make_adapter, tmp_path):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    more, less, other = (make_adapter(sd, mode="replace") for _ in range(3))
    more.extra = torch.nn.Linear(2, 2)
    del less.phi
    less.phi = None
    other.phi = torch.nn.Linear(32, 25)
    for adapter, message in (
        (more, "unknown extra.bias"),
        (less, "lacks phi.bias"),
        (other, r"\(25, 32\), not \(24, 32\)"),
    ):
        with pytest.raises(LLMDiffError, match=f"not saved, since it would not load again: .*{message}"):
            adapter.save_pretrained(saved)
        with pytest.raises(LLMDiffError, match="not saved"):
            adapter.save_pretrained(tmp_path / "new")
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert list((tmp_path / "new").iterdir()) == []


def test_a_disk_that_keeps_half_of_a_file_is_noticed(saved, sd, make_adapter, monkeypatch):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    write = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, content: write(path, content[: len(content) // 2]))
    with pytest.raises(LLMDiffError, match="not saved, since it would not load again"):
        perturb(make_adapter(sd, mode="replace"), seed=1).save_pretrained(saved)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_saving_leaves_the_random_state_alone(sd, make_adapter, tmp_path):
    adapter = make_adapter(sd)
    torch.manual_seed(2)
    expected = torch.rand(3)
    torch.manual_seed(2)
    adapter.save_pretrained(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_a_base_that_was_loaded_by_a_path_is_recorded_by_its_name(sd, make_adapter, tmp_path):
    sd.register_to_config(_name_or_path=tmp_path / "secret" / "my-base")
    assert make_adapter(sd).config.base.name == "my-base"
