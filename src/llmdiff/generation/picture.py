"""From a request to pictures, each with all that it was made with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from llmdiff.generation.png import Document
from llmdiff.generation.record import PictureSettings, Record
from llmdiff.generation.renderer import Renderer
from llmdiff.generation.request import GenerationRequest
from llmdiff.generation.sheet import SheetEntry, contact_sheet
from llmdiff.generation.watch import StepProgress
from llmdiff.progress import Progress, silent


@dataclass(frozen=True)
class Picture:
    """One picture, how it was made, and the base model's picture of the same prompt and seed if one was asked for."""

    image: Image.Image
    metadata: Record
    base: "Picture | None" = None

    @property
    def prompt(self) -> str:
        """The prompt it was drawn from."""
        return self.metadata.picture.prompt

    @property
    def seed(self) -> int:
        """Seed of its own noise."""
        return self.metadata.picture.seed

    def document(self) -> Document:
        """The document that its PNG carries."""
        return Document(kind="picture", pictures=(self.metadata,))


def generate(request: GenerationRequest, progress: Progress | None = None) -> list[Picture]:
    """Load the models and draw what is asked for; raises LLMDiffError if a model cannot be loaded.

    Example:
        >>> request = GenerationRequest(prompts=["a cup"], base="my-sd", adapter="my-adapter", steps=2, seed=7, num=2)
        >>> [picture.seed for picture in generate(request)]
        [7, 8]
    """
    return list(generate_each(request, progress))


def generate_each(request: GenerationRequest, progress: Progress | None = None) -> Iterator[Picture]:
    """As `generate`, each picture as soon as it is drawn, so that it can be kept whatever becomes of the next.

    Example:
        >>> request = GenerationRequest(prompts=["a cup"], base="my-sd", adapter="my-adapter", steps=2, seed=7, num=2)
        >>> for picture in generate_each(request):
        ...     write_png(Path(f"cup-{picture.seed}.png"), picture.image, picture.document())
    """
    report = progress or silent
    if request.proxy is not None:
        report("Asking the proxy", 0.0)
    rewritings = request.rewritings()
    report("Loading models", 0.0)
    renderer = Renderer.load(request.models(), device=request.device)
    settings = request.pictures(renderer.default_size(), rewritings)
    if request.offload_llm:
        report("Reading the prompts", 0.0)
        renderer.read_ahead(settings)
    yield from draw_each(renderer, settings, compare=request.compare, progress=report)


def draw_each(
    renderer: Renderer, settings: Sequence[PictureSettings], *, compare: bool, progress: Progress
) -> Iterator[Picture]:
    """Draw one picture after the other; with `compare`, each also by the base model alone."""
    runs = 2 if compare else 1
    whole = runs * len(settings)
    for number, one in enumerate(settings):
        drawn = _draw(renderer, one, _share(progress, "Drawing", runs * number, whole))
        if compare:
            with renderer.base_alone():
                base = _draw(renderer, one, _share(progress, "Drawing (base model)", runs * number + 1, whole))
            drawn = replace(drawn, base=base)
        yield drawn


def comparison_sheet(pictures: Sequence[Picture]) -> Image.Image:
    """Contact sheet of pictures drawn with `compare`: the base model's beside the adapted one, a row each.

    Example:
        >>> request = GenerationRequest(prompts=["a cup"], base="my-sd", adapter="my-adapter", steps=2, compare=True)
        >>> sheet = comparison_sheet(generate(request))
    """
    entries = [
        SheetEntry((picture.base.image, picture.image), f"{picture.prompt} (seed {picture.seed})")
        for picture in pictures
        if picture.base is not None
    ]
    return contact_sheet(entries, headings=("base", "with LLM"))


def _draw(renderer: Renderer, settings: PictureSettings, on_step: StepProgress) -> Picture:
    return Picture(renderer.draw(settings, on_step), renderer.record(settings))


def _share(progress: Progress, stage: str, done: int, whole: int) -> StepProgress:
    """Reports the share of a picture as that of a whole order, of which some pictures are done."""
    return lambda share: progress(stage, (done + share) / whole)
