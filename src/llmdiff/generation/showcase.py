"""The demo's pictures: prompts with known facts, drawn by the base model and by the adapted one, and checked."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from llmdiff.generation.picture import Picture, generate_each
from llmdiff.generation.request import GenerationRequest
from llmdiff.generation.sheet import SheetEntry, contact_sheet
from llmdiff.progress import Progress

Check = Callable[[Image.Image, Any], bool]  # (image, facts): whether the image shows every fact


class CheckedPrompt(Protocol):
    """A prompt, the group it belongs to, and the facts that a picture of it must show."""

    @property
    def group(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def facts(self) -> Any: ...


@dataclass(frozen=True)
class Shown:
    """One prompt's two pictures, and whether each shows everything that the prompt states."""

    group: str
    picture: Picture  # drawn with the adapter; `picture.base` without
    base_right: bool
    adapted_right: bool


def draw_showcase(
    request: GenerationRequest, prompts: Sequence[CheckedPrompt], check: Check, progress: Progress
) -> Iterator[Shown]:
    """Draw `request`, which has `compare` set and asks for one picture of each of `prompts`, and check each picture."""
    for prompt, picture in zip(prompts, generate_each(request, progress), strict=True):
        if picture.base is None:
            raise ValueError("a showcase needs a request with compare=True")
        right = check(picture.image, prompt.facts)
        yield Shown(prompt.group, picture, check(picture.base.image, prompt.facts), right)


def showcase_sheet(shown: Sequence[Shown]) -> Image.Image:
    """Contact sheet of the groups, base model beside adapted model, four prompts to a row."""
    entries = [
        SheetEntry((one.picture.base.image, one.picture.image), one.picture.prompt, one.group)
        for one in shown
        if one.picture.base is not None
    ]
    return contact_sheet(entries, headings=("base", "with LLM"), across=4)
