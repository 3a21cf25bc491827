"""What a run will cost, from shapes alone: counted right, and known before any weight is there."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from adapter.families import FAMILIES
from llmdiff.adapter import LLMDiffAdapter, RefinerConfig
from llmdiff.base import ImageModel
from llmdiff.errors import LLMDiffError
from llmdiff.generation import load_pipeline
from llmdiff.language import Encoding, LanguageModel
from llmdiff.training.costs import Costs, costs
from llmdiff.training.recipe import Recipe
from tiny_base import Places

REFINER = RefinerConfig(blocks=1, width=16)
CONFIGS = ("model_index.json", "config.json", "scheduler_config.json")


def without_weights(folder: Path, copy: Path) -> Path:
    """A copy of a model's folder with its configs alone."""
    for path in folder.rglob("*"):
        if path.name in CONFIGS:
            (copy / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(folder)).write_bytes(path.read_bytes())
    return copy


def recipe_of(base: Path, llm: Path, **changes: Any) -> Recipe:
    data = {"kind": "scenes", "captions": 6, "pictures": 2}
    loop = {"batch_size": 3, "ema": 0.9}
    return Recipe.model_validate({"base": str(base), "llm": str(llm), "data": data, "loop": loop} | changes)


def sizes(bill: Costs) -> dict[str, int]:
    return {f"{place}.{cost.name}": cost.size for place in ("memory", "disk") for cost in getattr(bill, place)}


@pytest.mark.parametrize("mode", ["augment", "replace"])
@pytest.mark.parametrize("family", FAMILIES)
def test_configs_are_enough_and_all_is_counted(family: str, mode: str, places: Places, tmp_path: Path) -> None:
    FAMILIES[family].build().save_pretrained(tmp_path / "whole")
    base = without_weights(tmp_path / "whole", tmp_path / "base")
    llm = without_weights(places.llm, tmp_path / "llm")
    bill = costs(recipe_of(base, llm, mode=mode, refiner=REFINER))
    found = sizes(bill)
    pipe, real = load_pipeline(tmp_path / "whole"), LanguageModel.load(str(places.llm))
    adapter = LLMDiffAdapter.create(pipe, real, mode=mode, refiner=REFINER)
    trained = sum(p.numel() for p in adapter.parameters())
    assert bill.parameters == trained
    assert found["memory.adapter"] == 20 * trained
    assert found["disk.adapter"] == 4 * trained
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            assert found[f"memory.{name}"] == 4 * sum(p.numel() for p in part.parameters())
    assert found["disk.latents"] == 2 * 12 * 4 * (64 // pipe.vae_scale_factor) ** 2
    assert found["disk.terms"] % (5 * 32 * 2) == 0


def kept_by_a_real_pass(base: Path, llm: Path, tokens: int) -> int:
    """Bytes of the tensors that autograd keeps of a forward pass with real numbers, attention being fused."""
    pipe, real = load_pipeline(base), LanguageModel.load(str(llm))
    adapter = LLMDiffAdapter.create(pipe, real, mode="replace").attach(pipe)
    frozen = ImageModel(pipe).freeze()
    parameters = {p.untyped_storage().data_ptr() for p in pipe.unet.parameters()}
    for _, p in adapter.train().trainable_parameters():
        parameters.add(p.untyped_storage().data_ptr())
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    encoding = Encoding(torch.randn(3, tokens, 32, requires_grad=True), torch.ones(3, tokens, dtype=torch.bool))
    text = {"encoder_hidden_states": torch.zeros(3, 77, 12)}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        frozen.predict(torch.randn(3, 4, 32, 32), torch.tensor([1, 2, 3]), adapter.denoiser_inputs(encoding, text))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_what_a_backward_pass_needs_is_what_autograd_keeps(places: Places) -> None:
    bill = costs(recipe_of(places.base, places.llm, mode="replace"))
    (tokens,) = {cost.size for cost in bill.disk if cost.name == "terms"}
    mean = tokens / (5 * 32 * 2) / 6
    real = kept_by_a_real_pass(places.base, places.llm, round(1.5 * mean))
    assert sizes(bill)["memory.activations"] == pytest.approx(real, rel=0.05)


def test_knobs_turn_what_they_say(places: Places) -> None:
    base = sizes(costs(recipe_of(places.base, places.llm)))

    def ratio(name: str, **changes: Any) -> float:
        return sizes(costs(recipe_of(places.base, places.llm, **changes)))[name] / base[name]

    assert ratio("memory.activations", loop={"batch_size": 6}) == pytest.approx(2, rel=0.01)
    assert ratio("memory.activations", loop={"batch_size": 6, "micro_batch": 3}) == pytest.approx(1, rel=0.01)
    assert ratio("memory.activations", gradient_checkpointing=True) < 0.8
    assert 0.8 <= ratio("memory.adapter", loop={"batch_size": 3, "ema": 0.9, "optimizer": "muon"}) < 0.95
    assert ratio("memory.LLM", llm_dtype="bfloat16") == 0.5
    assert ratio("memory.LLM", llm_quantization="4bit") < ratio("memory.LLM", llm_quantization="int8") < 0.6
    assert ratio("disk.terms", cache={"terms": "grouped", "groups": 2}) == pytest.approx(3 / 5)
    assert ratio("disk.terms", reading={"extraction": "last"}) == pytest.approx(2 / 5)
    assert "disk.terms" not in sizes(costs(recipe_of(places.base, places.llm, cache={"terms": "none"})))


SD15 = {"cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64}
SDXL = {
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [320, 640, 1280],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
}


@pytest.mark.slow
@pytest.mark.parametrize(("unet", "size"), [(SD15, 859_520_964), (SDXL, 2_567_463_684)])
def test_models_of_full_size_cost_no_memory_here(
    unet: dict[str, Any], size: int, places: Places, tmp_path: Path
) -> None:
    base = without_weights(places.base, tmp_path / "base")
    config = {"_class_name": "UNet2DConditionModel"} | unet
    (base / "unet" / "config.json").write_text(json.dumps(config))
    llm = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336}
    llm |= {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False}
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "config.json").write_text(json.dumps(llm | {"architectures": ["LlamaForCausalLM"]}))
    found = sizes(costs(recipe_of(base, tmp_path / "llm", mode="replace", llm_dtype="bfloat16")))
    assert found["memory.unet"] == 4 * size
    assert found["memory.LLM"] == 2 * 8_030_261_248
    assert 1e8 < found["memory.activations"] < 2e10


def test_data_that_is_not_here_yet_is_counted_by_the_picture(places: Places, tmp_path: Path) -> None:
    data = {"kind": "folder", "path": str(tmp_path / "not here")}
    bill = costs(recipe_of(places.base, places.llm, data=data))
    notes = {cost.name: cost.note for cost in bill.disk}
    assert notes["latents"] == "for each picture"
    assert notes["terms"].startswith("for each caption of 24 tokens")


@pytest.mark.parametrize(
    ("change", "said"),
    [({"base": "./missing"}, "./missing"), ({"llm": "./missing"}, "./missing")],
)
def test_what_is_missing_is_told(change: dict[str, str], said: str, places: Places) -> None:
    there = {"base": places.base, "llm": places.llm}
    with pytest.raises(LLMDiffError, match=said):
        costs(recipe_of(**there | change))


def test_a_recipe_file_is_priced_without_a_trace(places: Places, tmp_path: Path) -> None:
    recipe = recipe_of(places.base, places.llm, folder=str(tmp_path / "run"))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(json.loads(recipe.model_dump_json())))
    costs(recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]
