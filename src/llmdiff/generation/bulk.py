"""Pictures of a file of prompts: drawn in batches, written while the next are drawn, skipped where they are there."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from llmdiff.errors import LLMDiffError
from llmdiff.generation.call import kind
from llmdiff.generation.picture import Picture
from llmdiff.generation.png import file_stem, read_png, write_png
from llmdiff.generation.record import PictureSettings, Provenance, Record
from llmdiff.generation.renderer import Renderer, stored_hash
from llmdiff.generation.request import GenerationRequest
from llmdiff.progress import Progress, silent
from llmdiff.proxy import Rewriting
from llmdiff.sources import reason

_READ_AHEAD = 64
"""Pictures whose prompts the LLM reads before the image model draws them."""


@dataclass(frozen=True)
class Listed:
    """One picture of a file of prompts.

    Attributes:
        request: of its line.
        number: of the picture among those of its line.
        path: its file.
    """

    request: GenerationRequest
    number: int
    path: Path

    def settings(self, default_size: tuple[int, int], rewriting: Rewriting | None = None) -> PictureSettings:
        """Its settings, with the size of the base model where none is asked for."""
        return self.request.picture(self.request.prompts[0], self.number, default_size, rewriting)

    def found(self) -> Record | None:
        """What its file says of it; None if it is not there.

        Raises:
            LLMDiffError: there is another picture in its place, or something else.
        """
        if not os.path.lexists(self.path):
            return None
        try:
            record = read_png(self.path)[1].pictures[0]
        except LLMDiffError as error:
            raise LLMDiffError(
                f"{self.path} is in the place of a picture and cannot be read as one of llmdiff's ({reason(error)}): "
                "choose another --out, or remove it."
            ) from error
        size = (record.picture.width, record.picture.height)
        asked = record.picture.model_copy(update={"rewriting": None})
        if asked != self.settings(size) or record.models != self.request.models() or not self._is_by(record.picture):
            raise LLMDiffError(
                f"{self.path} was drawn by another line or with other models: choose another --out, or remove it."
            )
        if self.request.size not in (None, size):
            raise LLMDiffError(f"{self.path} has another size than is asked for: choose another --out, or remove it.")
        return record

    def _is_by(self, picture: PictureSettings) -> bool:
        """Whether a picture is of the proxy that is asked, or of the prompt as it is, as where that had no answer."""
        proxy, rewriting = self.request.proxy, picture.rewriting
        if proxy is None or rewriting is None:
            return rewriting is None
        return (rewriting.model, rewriting.instruction) == (proxy.model, proxy.instruction)


def listed(requests: Mapping[int, GenerationRequest], folder: Path) -> list[Listed]:
    """The pictures of a file of prompts, each with a file that is named by its line, prompt and seed.

    Args:
        requests: by the number of their line.
        folder: that of the files.
    """
    digits = len(str(max(requests)))
    return [
        Listed(request, number, folder / f"{line:0{digits}}-{file_stem(request.prompts[0], request.seed + number)}.png")
        for line, request in requests.items()
        for number in range(request.num)
    ]


def share_of_process(pictures: Sequence[Listed]) -> Sequence[Listed]:
    """Those of this process, of as many as a launcher (accelerate, torchrun) has started on one machine or several.

    Raises:
        LLMDiffError: the environment has numbers of processes that no launcher gives.
    """
    rank, world = _number("RANK", 0), _number("WORLD_SIZE", 1)
    if rank >= world:
        raise LLMDiffError(
            f"RANK={rank} and WORLD_SIZE={world} in the environment are not those of a launcher: unset both, or start "
            "with accelerate launch."
        )
    return pictures[rank::world]


def _number(variable: str, otherwise: int) -> int:
    """A number that a launcher gives its processes."""
    text = os.environ.get(variable, "").strip() or str(otherwise)
    if not (text.isascii() and text.isdecimal()):
        raise LLMDiffError(f"{variable}={text} in the environment is not a launcher's number: unset it.")
    return int(text)


def draw_listed(pictures: Sequence[Listed], batch_size: int = 1, progress: Progress | None = None) -> Iterator[Path]:
    """Draws the pictures of one file whose files are not there yet, and gives each file's path once it is written.

    Args:
        pictures: of requests that name the same models and the same proxy.
        batch_size: how many of one kind are drawn in one call. One by one, no picture's bits depend on the others.
        progress: called with what is being done.

    Raises:
        LLMDiffError: a model cannot be loaded, a picture cannot be drawn or written, or another has its place.

    Example:
        >>> Path("prompts.txt").write_text("a red cup\\na blue ball\\n")
        22
        >>> order = {"base": "my-sd", "adapter": "my-adapter", "steps": 2}
        >>> pictures = listed(read_prompt_file(Path("prompts.txt"), order), Path("pictures"))
        >>> [path.name for path in draw_listed(share_of_process(pictures))]
        ['1-a-red-cup-s0.png', '2-a-blue-ball-s0.png']
    """
    report = progress or silent
    found = [(one, one.found()) for one in pictures]
    todo = [one for one, record in found if record is None]
    there = {one.path: record.provenance for one, record in found if record is not None}
    _check_adapter(there, pictures)
    if not todo:
        return
    report("Loading models", 0.0)
    request = todo[0].request
    renderer = Renderer.load(request.models(), device=request.device or _device_of_process())
    _check_models(there, renderer.provenance())
    size = renderer.default_size()
    skipped = done = len(pictures) - len(todo)

    def reads(drawn: int) -> None:
        report("Reading the prompts", (skipped + drawn) / len(pictures))

    with ThreadPoolExecutor(1) as writer:  # waits for what is being written, also after an error or an interruption
        waiting: list[Future[Path]] = []
        for batch in _batches(renderer, todo, size, batch_size, reads):
            report("Drawing", done / len(pictures))
            drawn = _draw(renderer, [settings for _, settings in batch])
            yield from (future.result() for future in waiting)
            waiting = [writer.submit(_write, one.path, picture) for (one, _), picture in zip(batch, drawn, strict=True)]
            done += len(batch)
        yield from (future.result() for future in waiting)


def _check_adapter(there: Mapping[Path, Provenance], pictures: Sequence[Listed]) -> None:
    """Raises LLMDiffError if pictures are there that the adapter has drawn as it was once; no model is loaded."""
    if not there or (name := pictures[0].request.models().adapter) is None:
        return
    now = stored_hash(name)
    if changed := next((path for path, then in there.items() if then.adapter_hash not in (None, now)), None):
        raise _drawn_before(changed, "the adapter's weights")


def _check_models(there: Mapping[Path, Provenance], now: Provenance) -> None:
    """The same of all models, as far as their numbers can be compared."""
    for path, then in there.items():
        if then.dtype == now.dtype and (changed := then.changed_weights(now)):
            raise _drawn_before(path, changed[0][0])


def _drawn_before(path: Path, what: str) -> LLMDiffError:
    return LLMDiffError(
        f"{path} was drawn before there was a change of {what}: choose another --out, or remove what is there."
    )


def _device_of_process() -> str | None:
    """The GPU of this process, of those that a launcher has started on this machine; None takes the fastest device."""
    rank = _number("LOCAL_RANK", torch.cuda.device_count())
    return f"cuda:{rank}" if rank < torch.cuda.device_count() else None


def _batches(
    renderer: Renderer, todo: Sequence[Listed], size: tuple[int, int], batch_size: int, reads: Callable[[int], None]
) -> Iterator[list[tuple[Listed, PictureSettings]]]:
    """Pictures of one kind, after the LLM has read the prompts of theirs and of some that follow."""
    rewriter = todo[0].request.rewriter()
    for first in range(0, len(todo), _READ_AHEAD):
        some = todo[first : first + _READ_AHEAD]
        rewritings = rewriter.rewrite(one.request.prompts[0] for one in some) if rewriter else {}
        both = [(one, one.settings(size, rewritings.get(one.request.prompts[0]))) for one in some]
        reads(first)
        renderer.read(settings for _, settings in both)
        by_kind: dict[tuple[object, ...], list[tuple[Listed, PictureSettings]]] = {}
        for one, settings in both:
            by_kind.setdefault(kind(settings), []).append((one, settings))
        for same in by_kind.values():
            yield from (same[begin : begin + batch_size] for begin in range(0, len(same), batch_size))


def _draw(renderer: Renderer, settings: Sequence[PictureSettings]) -> list[Picture]:
    """The pictures of a batch; one by one where that is too large, or to find out which of them is at fault."""
    try:
        images = renderer.draw_batch(settings)
    except LLMDiffError:
        if len(settings) == 1:
            raise
        images = [renderer.draw(one) for one in settings]
    return [Picture(image, renderer.record(one)) for image, one in zip(images, settings, strict=True)]


def _write(path: Path, picture: Picture) -> Path:
    try:
        write_png(path, picture.image, picture.document(), replace=False)
    except FileExistsError as error:
        raise LLMDiffError(
            f"{path} has been made meanwhile, by another process that draws the same: wait until it has ended, or "
            "choose another place with --out."
        ) from error
    return path
