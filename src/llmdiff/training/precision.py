"""Mixed precision on the CPU: bfloat16 products where the processor has them."""

import torch

HAS_BF16: bool = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
"""Whether this CPU multiplies in bfloat16 (AVX512-BF16 or AMX); elsewhere bfloat16 is slower than float32."""


def autocast(enabled: bool) -> torch.autocast:
    """A region whose matrix products and convolutions run in bfloat16; weights and sums stay float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)
