"""Latents of the pictures: kept on disk, or made when they are asked for.

Letters in shapes: B pictures, c latent channels, h and w height and width of the latents.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from llmdiff.data import Captioned, Pixels
from llmdiff.errors import LLMDiffError
from llmdiff.files import readable
from llmdiff.precompute.keys import latents_folder
from llmdiff.precompute.store import Chunk, Store, check_room
from llmdiff.progress import Progress

_PICTURES = 16  # encoded at once
_CHUNK = 256  # pictures of a file
_NAME = "latents"


class Latents(Protocol):
    """The scaled latents of a list of pictures."""

    def __len__(self) -> int: ...

    def __getitem__(self, pictures: Sequence[int]) -> Tensor:
        """Latents (B, c, h, w) of pictures of one size, by number."""
        ...


class LiveLatents:
    """Latents that are made anew whenever they are asked for.

    Args:
        vae: an `AutoencoderKL` or `AutoencoderDC` in eval mode.
        data: the pictures.
    """

    def __init__(self, vae: Any, data: Pixels) -> None:
        self.vae, self.data = vae, data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, pictures: Sequence[int]) -> Tensor:
        """Latents (B, c, h, w) of pictures of one size, by number, in float32."""
        with ThreadPoolExecutor() as pool:  # decoding and scaling let go of the interpreter
            pixels = torch.stack(list(pool.map(self.data.pixels, pictures)))
        return encode_pictures(self.vae, pixels)


class CachedLatents:
    """Latents on disk in float16, of every picture once.

    Args:
        store: has an entry for every identity.
        identities: of the pictures, in their order.
    """

    def __init__(self, store: Store, identities: list[str]) -> None:
        self.store, self.identities = store, identities

    @classmethod
    def of(cls, vae: Any, data: Captioned, parent: Path, report: Progress, check: bool = False) -> Self:
        """The latents of all pictures, of which those are made now that no folder of `parent` holds yet.

        Args:
            vae: see `LiveLatents`.
            data: the pictures.
            parent: of the folders of all VAEs.
            report: called with the progress.
            check: whether everything that is kept is hashed first.

        Raises:
            LLMDiffError: A picture cannot be read, or the disk is full.
        """
        identities = [data.identity(i) for i in range(len(data))]
        store = Store(parent / latents_folder(vae))
        if check:
            store.check()
        chunks = _chunks(store.missing(identities), identities, data)
        live, places = LiveLatents(vae, data), {name: i for i, name in enumerate(identities)}

        def compute(names: Sequence[str]) -> Chunk:
            pictures = [places[name] for name in names]
            parts = [live[pictures[i : i + _PICTURES]].half() for i in range(0, len(pictures), _PICTURES)]
            if [data.identity(i) for i in pictures] != list(names):
                raise LLMDiffError("A picture has changed while the pictures were encoded: start again.")
            latents = torch.cat(parts)
            check_latents(latents, pictures, data)
            return Chunk({_NAME: latents}, [1] * len(names))

        if chunks:
            needed = sum(latent_bytes(vae, *data.size(places[name])) for chunk in chunks for name in chunk)
            check_room(store.folder, needed, "latents of the pictures")
            title = f"Encoding pictures, {readable(needed)}"
            store.fill(chunks, compute, lambda done: report(title, done / len(chunks)))
        return cls(store, identities)

    def __len__(self) -> int:
        return len(self.identities)

    def __getitem__(self, pictures: Sequence[int]) -> Tensor:
        """Latents (B, c, h, w) of pictures of one size, by number, in float16.

        Raises:
            LLMDiffError: They are not what was written.
        """
        return torch.cat([self.store.get(self.identities[i])[_NAME] for i in pictures])


@torch.no_grad()
def encode_pictures(vae: Any, pixels: Tensor) -> Tensor:
    """Scaled latents (B, c, h, w) of pictures (B, 3, H, W) in -1..1, on the CPU in float32."""
    encoded = vae.encode(pixels.to(vae.device, vae.dtype))
    mean = encoded.latent if hasattr(encoded, "latent") else encoded.latent_dist.mean
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    scaled: Tensor = (mean.float() - shift) * vae.config.scaling_factor
    return scaled.cpu()


def check_latents(latents: Tensor, pictures: Sequence[int], data: Captioned) -> None:
    """Raises LLMDiffError, which names the picture, unless latents (B, c, h, w) are finite.

    Args:
        latents: of some pictures.
        pictures: the numbers of these, B of them.
        data: all pictures.
    """
    fine = latents.isfinite().flatten(1).all(1)
    if not fine.all():
        picture = pictures[int((~fine).long().argmax())]
        raise LLMDiffError(
            f"The latents of picture {picture}, {data.captions[picture][0][:60]!r}, are not finite: the base model's "
            "VAE is damaged or overflows; use another, and delete the latents in the cache folder."
        )


def latent_bytes(vae: Any, height: int, width: int) -> int:
    """The bytes that the latents of a picture of so many pixels take on disk, about."""
    factor = getattr(vae, "spatial_compression_ratio", None) or 2 ** (len(vae.config.block_out_channels) - 1)
    return 2 * int(vae.config.latent_channels) * -(-height // factor) * -(-width // factor)


def _chunks(missing: list[str], identities: list[str], data: Captioned) -> list[list[str]]:
    """Lists of pictures of one size each, in the order of the data, which may be quicker to read in order."""
    wanted, by_size = set(missing), dict[tuple[int, int], list[str]]()
    for i, name in enumerate(identities):
        if name in wanted:
            wanted.remove(name)
            by_size.setdefault(data.size(i), []).append(name)
    return [names[i : i + _CHUNK] for names in by_size.values() for i in range(0, len(names), _CHUNK)]
