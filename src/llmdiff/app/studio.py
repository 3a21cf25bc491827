"""The models behind the page: loaded once, asked by one job at a time."""

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from llmdiff.app.jobs import Job, part_of, steps_of
from llmdiff.app.settings import MOST_PICTURES, MOST_PIXELS, MOST_STEPS, AppSettings
from llmdiff.errors import LLMDiffError
from llmdiff.evaluation.prompts import known_prompts
from llmdiff.explanation import Explanation, explain
from llmdiff.generation import Document, GenerationRequest, Renderer, SheetEntry, contact_sheet, file_stem, write_png
from llmdiff.generation.picture import Picture, comparison_sheet
from llmdiff.generation.record import Models, PictureSettings
from llmdiff.proxy import Rewriting

_BASE = "base model"
_Orders = list[list[tuple[Renderer | None, PictureSettings]]]
"""The pictures of a sheet, row by row: who draws each, None of the base model alone, and its settings."""


@dataclass(frozen=True)
class Pair:
    """A picture with the adapter and, if it was asked for, the base model's of the same seed, as files.

    While the first is still being drawn, it is None.

    Attributes:
        adapted, base: the files.
        seed: of both.
        rewritten: what they are drawn from, if a proxy has rewritten the prompt.
        words: what the proxy failed in.
    """

    adapted: Path | None
    base: Path | None
    seed: int
    rewritten: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """Pictures of a sweep so far, row by row; None where one is still missing."""

    columns: Sequence[str]
    rows: Sequence[str]
    images: Sequence[Sequence[Image.Image | None]]

    def image(self) -> Image.Image:
        """A contact sheet of them."""
        known = next(image for row in self.images for image in row if image is not None)
        blank = Image.new("RGB", known.size, "#eef0f4")
        entries = [
            SheetEntry(tuple(image or blank for image in row), caption)
            for row, caption in zip(self.images, self.rows, strict=True)
        ]
        return contact_sheet(entries, headings=self.columns)


class Studio:
    """Renderers of one base model, one for each adapter, and what the page asks of them.

    All methods that take a job draw, and are run by the worker's thread alone.

    Attributes:
        labels: the adapters by the names that the page shows.

    Args:
        settings: which models.
        renderer: of the first adapter, if it is loaded already.

    Raises:
        LLMDiffError: a model cannot be loaded, or one does not fit the others.
    """

    def __init__(self, settings: AppSettings, renderer: Renderer | None = None) -> None:
        self.settings = settings
        first = settings.adapters[0]
        models = Models(base=settings.base, base_config=settings.base_config, adapter=first, llm=settings.llm)
        self._current = renderer or Renderer.load(models, device=settings.device)
        self._renderers = {first: self._current}
        for name in settings.adapters[1:]:
            self._current = self._renderers[name] = self._current.sibling(name)
        self._use(first)
        self.labels = labels_of(settings.adapters)

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the adapters."""
        return self.settings.adapters

    @property
    def renderer(self) -> Renderer:
        """That of the first adapter."""
        return self._renderers[self.adapters[0]]

    @property
    def default_size(self) -> tuple[int, int]:
        """Width and height that the base model was trained for."""
        return self.renderer.default_size()

    def adapter_hashes(self) -> set[str | None]:
        """Hashes of the adapters' weights, as PNGs record them."""
        return {renderer.adapter_hash for renderer in self._renderers.values()}

    def request(self, prompts: Sequence[str], values: Mapping[str, Any]) -> GenerationRequest:
        """An order of the page, checked.

        Args:
            prompts: what to draw.
            values: fields of `GenerationRequest`; an adapter is one of `labels`.

        Raises:
            LLMDiffError: a value is out of bounds.
        """
        values = dict(values)
        label = values.pop("adapter", None) or next(iter(self.labels))
        if label not in self.labels:
            raise LLMDiffError("There is no such adapter: choose one of the list.")
        adapter = self.labels[label]
        models: dict[str, Any] = {
            "base": self.settings.base,
            "base_config": self.settings.base_config,
            "llm": self.settings.llm,
        }
        if values.pop("rewrite", False) and self.settings.proxy is not None:
            if values.get("prompt_weights"):
                raise LLMDiffError("A prompt that is rewritten has no weights of words: turn off one of the two.")
            models["proxy"] = self.settings.proxy
        given = {name: value for name, value in values.items() if value is not None}
        request = GenerationRequest.model_validate({"prompts": list(prompts), "adapter": adapter, **models, **given})
        if request.steps > MOST_STEPS:
            raise LLMDiffError(f"{request.steps} steps are more than the {MOST_STEPS} that are drawn here.")
        width, height = self.default_size
        if request.size and request.size[0] * request.size[1] > MOST_PIXELS * width * height:
            raise LLMDiffError(f"That size is too large: at most {MOST_PIXELS} times the pixels of {width}x{height}.")
        return request

    def draw(self, job: Job, request: GenerationRequest) -> Pair:
        """Draws one picture with the adapter, after the base model's if the request compares."""
        renderer = self._use(str(request.adapter))
        words: list[str] = []
        [settings] = request.pictures(self.default_size, self._rewritings(job, request, words))
        half = 0.5 if request.compare else 0.0
        base = self._base(job, renderer, settings, half) if request.compare else None
        image = renderer.draw(settings, steps_of(job, "Drawing with the LLM", half))
        picture = Picture(image, renderer.record(settings), base)
        rewritten = settings.texts if settings.rewriting else ()
        base_path = self._written(base) if base else None
        pair = Pair(self._written(picture), base_path, picture.seed, rewritten, tuple(words))
        if base is not None:
            self._write(f"{file_stem(picture.prompt, picture.seed)}-compare", comparison_sheet([picture]),
                        Document(kind="comparison", pictures=(picture.metadata,)))  # fmt: skip
        return pair

    def _base(self, job: Job, renderer: Renderer, settings: PictureSettings, last: float) -> Picture:
        with renderer.base_alone():
            image = renderer.draw(settings, steps_of(job, "Drawing (base model)", 0.0, last))
            picture = Picture(image, renderer.record(settings))
        job.part = Pair(None, self._written(picture), picture.seed)
        return picture

    def _rewritings(
        self, job: Job, request: GenerationRequest, words: list[str] | None = None
    ) -> Mapping[str, Rewriting]:
        """What the proxy makes of the prompts, if the request has one; `words` get what it fails in, or a warning."""
        if request.proxy is None:
            return {}
        from llmdiff.proxy import Rewriter

        job.report("Asking the proxy", 0.0)
        return Rewriter(request.proxy, tell=None if words is None else words.append).rewrite(request.prompts)

    def sweep_scales(self, job: Job, request: GenerationRequest, scales: Sequence[float]) -> Sheet:
        """Draws a sheet of one prompt: a column for each scale of the adapter, a row for each seed."""
        _check_count(len(scales) * request.num)
        renderer = self._use(str(request.adapter))
        pictures = request.pictures(self.default_size, self._rewritings(job, request))
        orders: _Orders = [
            [(renderer, one.model_copy(update={"scale": scale})) for scale in scales] for one in pictures
        ]
        return self._sheet(job, orders, [f"scale {scale:g}" for scale in scales], [f"seed {p.seed}" for p in pictures])

    def sweep_adapters(self, job: Job, request: GenerationRequest) -> Sheet:
        """Draws a sheet of prompts: a column for the base model and each adapter, a row for each prompt."""
        _check_count(len(request.prompts) * (1 + len(self.adapters)))
        rewritings = self._rewritings(job, request)
        pictures = [request.picture(one, 0, self.default_size, rewritings.get(one)) for one in request.prompts]
        renderers = [None, *self._renderers.values()]
        orders: _Orders = [[(renderer, one) for renderer in renderers] for one in pictures]
        return self._sheet(job, orders, [_BASE, *self.labels], request.prompts)

    def why(self, job: Job, request: GenerationRequest, replacements: Mapping[str, str]) -> Explanation:
        """Explains one picture, of a prompt that is rewritten by the words of the rewriting."""
        renderer = self._use(str(request.adapter))
        [settings] = request.pictures(self.default_size, self._rewritings(job, request))
        settings = settings.model_copy(update={"prompt": settings.texts[0], "rewriting": None})
        return explain(
            renderer, settings, replacements=replacements, among=known_prompts(self.settings.base),
            progress=part_of(job, 0.0, 1.0),
        )  # fmt: skip

    def _sheet(
        self,
        job: Job,
        orders: _Orders,
        columns: Sequence[str],
        rows: Sequence[str],
    ) -> Sheet:
        images: list[list[Image.Image | None]] = [[None] * len(columns) for _ in orders]
        places = list(itertools.product(range(len(orders)), range(len(columns))))
        for number, (row, column) in enumerate(places):
            stage = f"Picture {number + 1} of {len(places)}"
            on_step = steps_of(job, stage, number / len(places), (number + 1) / len(places))
            renderer, settings = orders[row][column]
            images[row][column] = self._image(renderer, settings, on_step)
            job.part = Sheet(columns, rows, [list(line) for line in images])
        return Sheet(columns, rows, images)

    def _image(self, renderer: Renderer | None, settings: PictureSettings, on_step: Any) -> Image.Image:
        if renderer is not None:
            name = next(name for name, one in self._renderers.items() if one is renderer)
            return self._use(name).draw(settings, on_step)
        with self._current.base_alone():
            return self._current.draw(settings, on_step)

    def _use(self, name: str) -> Renderer:
        """The renderer of an adapter, which is attached in the place of another one."""
        wanted = self._renderers[name]
        if wanted is not self._current:
            self._current.detach()
            self._current = wanted
        wanted.attach()
        return wanted

    def _written(self, picture: Picture) -> Path:
        end = "" if picture.metadata.models.adapter else "-base"
        return self._write(f"{file_stem(picture.prompt, picture.seed)}{end}", picture.image, picture.document())

    def _write(self, stem: str, image: Image.Image, document: Document) -> Path:
        """Writes a picture under a name that nobody has, and gives its path."""
        for number in itertools.count(1):
            path = self.settings.out / f"{stem}{f'-{number}' if number > 1 else ''}.png"
            if not os.path.lexists(path):
                write_png(path, image, document, replace=False)
                return path
        raise AssertionError("numbers do not end")


def labels_of(adapters: Sequence[str]) -> dict[str, str]:
    """The adapters by the names that the page shows, without the folders that they lie in.

    Example:
        >>> labels_of(["runs/a/adapter", "me/fox"])
        {'a/adapter': 'runs/a/adapter', 'me/fox': 'me/fox'}
    """
    labels: dict[str, str] = {}
    for adapter in adapters:
        short = "/".join(Path(adapter).parts[-2:])
        label = next(
            f"{short}{end}" for end in ("", *(f" ({n})" for n in range(2, 100))) if f"{short}{end}" not in labels
        )
        labels[label] = adapter
    return labels


def _check_count(count: int) -> None:
    if not 1 <= count <= MOST_PICTURES:
        raise LLMDiffError(f"A sheet has from 1 to {MOST_PICTURES} pictures, and this one would have {count}.")
