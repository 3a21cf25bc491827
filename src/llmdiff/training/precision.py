"""How a model in training runs on the CPU: in bfloat16 where the processor has it, small attention the plain way, and
its blocks compiled."""

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
from torch.nn.attention import SDPBackend, sdpa_kernel

from llmdiff.errors import LLMDiffError

HAS_BF16: bool = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
"""Whether this CPU multiplies in bfloat16 (AVX512-BF16 or AMX); elsewhere bfloat16 is slower than float32."""

HAS_COMPILER: bool = shutil.which(os.environ.get("CXX", "g++")) is not None
"""Whether there is the C++ compiler that `compile_blocks` needs."""


def wants_bf16(precision: str, launched: str, device: torch.device) -> bool:
    """Whether matrix products run in bfloat16.

    Args:
        precision: of the recipe; "auto" takes bfloat16 where the launcher asks for it or the device has it.
        launched: the launcher's `--mixed_precision`, "no" if nothing was said.
        device: on which it runs.

    Raises:
        LLMDiffError: The launcher asks for another precision.
    """
    if launched not in ("no", "bf16"):
        raise LLMDiffError(f"Training has no {launched}: launch it with --mixed_precision bf16 or no.")
    if precision != "auto":
        return precision == "bfloat16"
    has_it = torch.cuda.is_bf16_supported() if device.type == "cuda" else device.type == "cpu" and HAS_BF16
    return launched == "bf16" or has_it


def autocast(enabled: bool, device: str = "cpu") -> torch.autocast:
    """A region whose matrix products and convolutions run in bfloat16; weights and sums stay float32."""
    return torch.autocast(device, torch.bfloat16, enabled=enabled)


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
    """Whether a recipe's `compile` means that: "auto" does where it can be, and a run is long enough to gain by it."""
    return HAS_COMPILER and steps >= 500 if setting == "auto" else setting
