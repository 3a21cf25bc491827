"""Precision and kernels of a model in training: matrix products in half precision where that pays, small attention on
the CPU the plain way, and blocks compiled."""

import os
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from diffusers.models.attention import BasicTransformerBlock, FeedForward
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.attention import SDPBackend, sdpa_kernel

from llmdiff.errors import LLMDiffError

HAS_BF16: bool = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
"""True if this CPU multiplies in bfloat16 (AVX512-BF16 or AMX); elsewhere bfloat16 is slower than float32."""

HAS_COMPILER: bool = shutil.which(os.environ.get("CXX", "g++")) is not None
"""True if there is the C++ compiler that `compile_blocks` needs."""


_LAUNCHED = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def product_dtype(precision: str, launched: str, device: torch.device) -> torch.dtype:
    """The type in which matrix products run.

    Args:
        precision: of the recipe; "auto" takes what the launcher asks for, else bfloat16 where the device has it.
        launched: the launcher's `--mixed_precision`, "no" if there is none.
        device: on which it runs.

    Raises:
        LLMDiffError: The launcher asks for another precision.
    """
    if launched not in _LAUNCHED:
        raise LLMDiffError(f"Training has no {launched}: launch it with --mixed_precision bf16, fp16 or no.")
    if precision != "auto":
        dtype: torch.dtype = getattr(torch, precision)
        return dtype
    return torch.bfloat16 if launched == "no" and _has_bf16(device) else _LAUNCHED[launched]


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and HAS_BF16


def autocast(dtype: torch.dtype, device: str = "cpu") -> torch.autocast:
    """A region whose matrix products and convolutions run in `dtype`; weights and sums stay float32."""
    half = dtype if dtype != torch.float32 else torch.bfloat16  # which autocast wants to hear even if it is off
    return torch.autocast(device, half, enabled=dtype != torch.float32)


def loss_scaler(dtype: torch.dtype, device: str = "cpu") -> GradScaler:
    """What scales the loss for gradients in `dtype`; it does nothing unless that is float16.

    Float16 has no number between 0 and 6e-8, which many a gradient is; so torch's scaler makes the loss as large as it
    may be: half as large after each step whose gradient overflowed, which is skipped, and twice as large after 2,000
    that did not.
    """
    return GradScaler(device, enabled=dtype == torch.float16)


def restore_scaler(scaler: GradScaler, state: dict[str, Any]) -> None:
    """Puts back a scaler's state, also the first version's; one of a run in another precision is not of use."""
    if "value" in state:
        state = {"scale": state["value"], "_growth_tracker": state["good"]} if state["adapts"] else {}
    if scaler.is_enabled() and state:
        scaler.load_state_dict(scaler.state_dict() | state)


def attention_kernels(latents: Tensor, denoiser: Any) -> AbstractContextManager[None]:
    """A region whose attention is the plain one when `latents` (B, C, H, W) are on the CPU and small, in which case the
    fused kernel's gradient is several times slower; from 1,024 places on, the plain one's memory would be a burden.

    With gradient checkpointing the layers run again outside the region, where they must find the same kernel.
    """
    small = latents.device.type == "cpu" and latents[0, 0].numel() < 1024
    return sdpa_kernel(SDPBackend.MATH) if small and not denoiser.is_gradient_checkpointing else nullcontext()


def compile_blocks(denoiser: Any) -> None:
    """Compiles a denoiser's residual and transformer blocks, each once for each shape: a third off a step's time.

    Its parameters and their names stay as they are.
    """
    _compile(part for part in denoiser.modules() if isinstance(part, ResnetBlock2D | BasicTransformerBlock))


def compile_around_adapter(denoiser: Any) -> None:
    """Compiles the parts of a denoiser that no adapter's hook is in: residual blocks, self-attention, feed-forward.

    The cross-attention stays as it is: with every length of the prompts its shapes are others.
    """
    _compile(part for part in denoiser.modules() if isinstance(part, ResnetBlock2D | FeedForward) or _is_self(part))


def _is_self(part: nn.Module) -> bool:
    return isinstance(part, Attention) and not part.is_cross_attention


def _compile(parts: Iterable[nn.Module]) -> None:
    for part in parts:
        part.compile(dynamic=False, isolate_recompiles=True)


def wants_compiler(setting: Literal["auto"] | bool, steps: int) -> bool:
    """True if a recipe's `compile` asks for it: "auto" does where it can be, and a run is long enough to gain by it."""
    return HAS_COMPILER and steps >= 500 if setting == "auto" else setting
