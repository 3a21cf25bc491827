"""What ComfyUI predicts with our join is what diffusers predicts with the adapter attached."""

from typing import Any

import pytest
import torch

from comfyui import installation
from comfyui.sampling import comfyui_noise, diffusers_noise, latents
from comfyui.tiny import Forms, build_adapter, features_of, joint_of
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.adapter.config import Mode
from llmdiff.comfyui import condition, join_model
from llmdiff.language import LanguageModel

pytestmark = installation.needed
PROMPT, NEGATIVE = "a red cup on a box", "blurred"
MODES: tuple[Mode, ...] = ("augment", "replace")


def encode(pipe: Any, adapter: LLMDiffAdapter, text: str) -> Any:
    if adapter.config.mode == "replace":
        return condition(adapter, text)
    features, settings = features_of(pipe, text)
    return condition(adapter, text, [[features, settings]])


@pytest.mark.parametrize("mode", MODES)
def test_both_forms_predict_the_same_noise(forms: Forms, llm: LanguageModel, mode: Mode) -> None:
    adapter = build_adapter(forms.pipe, llm, mode)
    x = latents(2)
    model = join_model(forms.model, joint_of(adapter))
    ours = comfyui_noise(model, x, encode(forms.pipe, adapter, PROMPT), encode(forms.pipe, adapter, NEGATIVE))
    theirs = diffusers_noise(forms.pipe, adapter, x, PROMPT, NEGATIVE)
    base = diffusers_noise(forms.pipe, None, x, PROMPT, NEGATIVE)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-4)
    assert (theirs - base).abs().max() > 0.01
