"""Transformer blocks between the text encoding and the layers, in which tokens read each other once more.

An LLM's state of a token knows only what comes before it: the ball of "a ball that is red" is not red yet, and which
thing is left of which is known at the second one. One linear map of each token by itself, which is all that φ and τ
are, cannot mend that; a few transformer blocks without a causal mask can, as text encoders of image models, and the
token refiners that were put behind decoder-only LLMs since (HunyuanVideo, arXiv 2412.03603, section 4.2), have it.
None of this is in Dong et al. 2024 **[choice]**; without a refiner the adapter is theirs.

A refiner can also hand on fewer numbers than an LLM is wide. Every layer has a τ_k and a τ_v that read the encoding,
and nearly all weights of an adapter for a wide LLM are there: of SDXL and a width of 4,096, 682 million, with E = 1,024
170.

Letters in shapes: B batch, S tokens, D LLM width, R width of the refiner, E width of what it puts out.
"""

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from llmdiff.errors import LLMDiffError
from llmdiff.language import Encoding
from llmdiff.settings import Settings

_HEAD = 64  # width of a head, about
_SLOWEST = 1000.0  # a position's slowest wave takes about so many tokens for 1/2π of a turn


class RefinerConfig(Settings):
    """The size of a refiner.

    Attributes:
        blocks: how many transformer blocks.
        width: R, even.
        out: E, at most D; None for D.

    Example:
        >>> RefinerConfig(blocks=2, width=256).heads
        4
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    blocks: int = Field(2, ge=1, le=64, description="transformer blocks")
    width: int = Field(256, ge=2, le=65_536, multiple_of=2, description="of the blocks")
    out: int | None = Field(
        None, ge=1, le=65_536, description="width of what the layers read; that of the LLM if it is not given"
    )

    @property
    def heads(self) -> int:
        """As many heads of about 64 numbers as divide the width."""
        return next(count for count in range(max(1, self.width // _HEAD), 0, -1) if self.width % count == 0)


class Refiner(nn.Module):
    """``N c + leave(blocks(enter(c) + positions))`` with pre-norm transformer blocks, whose attention skips padding.

    ``leave`` starts at 0: an untrained refiner puts out N c. Where E is D, N is the identity and nothing is changed;
    else it is learned, and starts as E directions at right angles, by lot or by `llmdiff.training.ridge_init`.

    Args:
        width: D.
        config: the size.

    Attributes:
        narrow: N, (E, D); None for the identity.

    Raises:
        LLMDiffError: if E is more than D.

    Example:
        >>> refiner = Refiner(llm.width, RefinerConfig(width=16, out=4))
        >>> refiner(adapter.encode(["a red cup"])).embeds.shape[-1]
        4
    """

    def __init__(self, width: int, config: RefinerConfig) -> None:
        super().__init__()
        out = config.out or width
        if out > width:
            raise LLMDiffError(f"A refiner's out is at most the width of the LLM, {width:,}, not {out:,}.")
        self.narrow = nn.Linear(width, out, bias=False) if config.out else None
        if self.narrow is not None:
            nn.init.orthogonal_(self.narrow.weight)
        self.enter = nn.Linear(width, config.width)
        block = nn.TransformerEncoderLayer(
            config.width,
            config.heads,
            4 * config.width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.TransformerEncoder(
            block, config.blocks, nn.LayerNorm(config.width), enable_nested_tensor=False
        )
        self.leave = nn.Linear(config.width, out)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, encoding: Encoding) -> Encoding:
        """The encoding (B, S, D) with what its tokens say of each other, (B, S, E); exact zeros at padding."""
        mask = encoding.mask
        unread = ~mask & mask.any(1, keepdim=True)  # a row of padding alone reads it: a softmax over nothing is NaN
        entered = self.enter(encoding.embeds.to(self.enter.weight.dtype))
        refined = self.blocks(entered + positions(entered), src_key_padding_mask=unread)
        change = self.leave(refined).masked_fill(~mask[..., None], 0)
        embeds = encoding.embeds if self.narrow is None else self.narrow(encoding.embeds.to(self.narrow.weight.dtype))
        return Encoding(embeds + change.to(embeds.dtype), mask)


def positions(like: Tensor) -> Tensor:
    """Sines and cosines of the tokens' places, (S, R), of which no two tokens have the same."""
    _, length, width = like.shape
    steps = torch.arange(width // 2, device=like.device) / max(1, width // 2)
    angles = torch.arange(length, device=like.device)[:, None] * _SLOWEST**-steps
    return torch.cat([angles.sin(), angles.cos()], 1).to(like.dtype)
