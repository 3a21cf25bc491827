"""How products run on the CPU: in bfloat16 where the processor has it, and small attention the plain way."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

HAS_BF16: bool = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
"""Whether this CPU multiplies in bfloat16 (AVX512-BF16 or AMX); elsewhere bfloat16 is slower than float32."""


def autocast(enabled: bool) -> torch.autocast:
    """A region whose matrix products and convolutions run in bfloat16; weights and sums stay float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


def attention_kernels(latents: Tensor, denoiser: Any) -> AbstractContextManager[None]:
    """A region whose attention is the plain one when `latents` (B, C, H, W) are on the CPU and small, in which case the
    fused kernel's gradient is several times slower; from 1,024 places on, the plain one's memory would be a burden.

    With gradient checkpointing the layers run again outside the region, where they must find the same kernel.
    """
    small = latents.device.type == "cpu" and latents[0, 0].numel() < 1024
    return sdpa_kernel(SDPBackend.MATH) if small and not denoiser.is_gradient_checkpointing else nullcontext()
