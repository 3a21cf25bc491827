"""Guiders of modular pipelines: each call of the denoiser reads the prompt that it is made for."""

from typing import Any

import diffusers
import pytest
from diffusers import (
    AdaptiveProjectedGuidance,
    AutoGuidance,
    ClassifierFreeGuidance,
    ClassifierFreeZeroStarGuidance,
    LayerSkipConfig,
    PerturbedAttentionGuidance,
    SkipLayerGuidance,
    SmoothedEnergyGuidance,
    TangentialClassifierFreeGuidance,
)
from diffusers.guiders import AdaptiveProjectedMixGuidance
from diffusers.hooks import SmoothedEnergyGuidanceConfig

from adapter.changes import distance
from adapter.modular import build_modular, draw_modular
from adapter.tiny import PROMPT, build_sdxl, perturb
from llmdiff.adapter import LLMDiffAdapter

BLOCKS = "down_blocks.0.attentions.0.transformer_blocks"
ALIKE = 1e-3  # pictures that are the same but for the order of the sums; others are apart by more than ten times that
UNDER_GUIDANCE = ["positive", "negative"] * 2
PERTURBED = [*UNDER_GUIDANCE, "positive"]  # not in the first step, whenever it is to start


@pytest.fixture(autouse=True)
def _no_word_of_experimental_guiders() -> None:
    diffusers.logging.set_verbosity_error()


SKIP = LayerSkipConfig(indices=[0], fqn=BLOCKS)
SCORES = LayerSkipConfig(indices=[0], fqn=BLOCKS, skip_attention=False, skip_attention_scores=True, skip_ff=False)


def always(name: str) -> dict[str, float]:
    return {f"{name}_start": 0.0, f"{name}_stop": 1.0}


GUIDERS: dict[str, tuple[Any, list[str]]] = {  # and which prompt each call of two steps reads
    "guidance": (lambda: ClassifierFreeGuidance(5.0), UNDER_GUIDANCE),
    "no guidance": (lambda: ClassifierFreeGuidance(1.0), ["positive"] * 2),
    "rescaled": (lambda: ClassifierFreeGuidance(5.0, guidance_rescale=0.7), UNDER_GUIDANCE),
    "from the middle": (lambda: ClassifierFreeGuidance(5.0, start=0.5), ["positive", "positive", "negative"]),
    "to the middle": (lambda: ClassifierFreeGuidance(5.0, stop=0.5), ["positive", "negative", "positive"]),
    "projected": (lambda: AdaptiveProjectedGuidance(5.0), UNDER_GUIDANCE),
    "mixed": (lambda: AdaptiveProjectedMixGuidance(5.0), UNDER_GUIDANCE),
    "tangential": (lambda: TangentialClassifierFreeGuidance(5.0), UNDER_GUIDANCE),
    "zero star": (lambda: ClassifierFreeZeroStarGuidance(5.0, zero_init_steps=0), UNDER_GUIDANCE),
    "auto": (lambda: AutoGuidance(5.0, auto_guidance_config=SKIP), UNDER_GUIDANCE),
    "perturbed attention": (
        lambda: PerturbedAttentionGuidance(
            5.0, perturbed_guidance_scale=3.0, perturbed_guidance_config=SCORES, **always("perturbed_guidance")
        ),
        PERTURBED,
    ),
    "skipped layers": (
        lambda: SkipLayerGuidance(
            5.0, skip_layer_guidance_scale=3.0, skip_layer_config=SKIP, **always("skip_layer_guidance")
        ),
        PERTURBED,
    ),
    "smoothed energy": (
        lambda: SmoothedEnergyGuidance(
            5.0,
            seg_guidance_scale=3.0,
            seg_guidance_config=SmoothedEnergyGuidanceConfig(indices=[0], fqn=BLOCKS),
            **always("seg_guidance"),
        ),
        PERTURBED,
    ),
}
"""Left out: FrequencyDecoupledGuidance, which needs another package, and MagnitudeAwareGuidance, which asks torch for a
norm that it does not know. In diffusers 0.42 perturbed or skipped layers without guidance read the negative prompt."""


class Listener:
    """After each call of a denoiser: tells which prompt it was drawn for, by drawing for both again."""

    def __init__(self, adapter: LLMDiffAdapter, classic: Any, prompts: dict[str, str]) -> None:
        self.texts = {}
        for name, prompt in prompts.items():
            features = None
            if adapter.config.mode == "augment":
                with adapter.disable_adapter():
                    features = classic.encode_prompt(prompt, do_classifier_free_guidance=False)[0]
            self.texts[name] = adapter.condition(adapter.encode([prompt]), features)
        self.calls: list[str] = []
        self.listening = True

    def __call__(self, unet: Any, args: Any, kwargs: Any, output: Any) -> None:
        if not self.listening:
            return
        self.listening = False
        alike = []
        for name, text in self.texts.items():
            predicted = unet(*args, **kwargs | {"encoder_hidden_states": text})[0]
            if distance(predicted, output[0]) < ALIKE / 10:
                alike.append(name)
        self.listening = True
        self.calls.append(" or ".join(alike))


@pytest.mark.parametrize("name", GUIDERS)
def test_each_call_of_a_guider_reads_its_own_prompt(make_adapter, mode, name):
    make, expected = GUIDERS[name]
    classic = build_sdxl()
    modular = build_modular(classic, guider=make())
    adapter = perturb(make_adapter(modular, mode=mode)).attach(modular)
    prompts = {"positive": PROMPT, "negative": "blue"}
    listener = Listener(adapter, build_sdxl(), prompts)
    handle = modular.unet.register_forward_hook(listener, with_kwargs=True)
    picture = draw_modular(modular, negative_prompt="blue")
    handle.remove()
    assert listener.calls == expected
    adapter.detach()
    assert distance(picture, draw_modular(build_modular(classic, guider=make()), negative_prompt="blue")) > ALIKE
