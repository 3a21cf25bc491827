"""All scores of a base and its adapter in one table, beside the base at other scales of guidance.

The pictures are drawn into a folder, where they stay, and scored from there: what was interrupted goes on, and what is
scored can be looked at.
"""

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from llmdiff.errors import LLMDiffError
from llmdiff.evaluation.consistency import evaluate_consistency
from llmdiff.evaluation.distance import THINGS, evaluate_distance
from llmdiff.evaluation.domains import DOMAINS, version_for
from llmdiff.evaluation.outcomes import identity
from llmdiff.evaluation.pictures import FEWEST, evaluate_pictures
from llmdiff.evaluation.prompts import ScenePrompt, scene_prompts
from llmdiff.evaluation.scenes import GUIDANCE, STEPS
from llmdiff.files import written_whole
from llmdiff.generation import GenerationRequest, Models, Renderer, draw_listed, listed, read_prompt_file
from llmdiff.generation.bulk import Listed
from llmdiff.hashing import json_hash
from llmdiff.models import EMBEDDED
from llmdiff.progress import Progress, silent

_BATCH = 12  # pictures per call of the pipeline
_SEED = 982  # of the drawn pictures that serve as reference
_CUT = "The base model reads"
"""How the warning of a prompt that is too long for the base begins: of its own benchmark half are."""


@dataclass(frozen=True)
class Overview:
    """What is drawn and scored.

    Attributes:
        base: Base model.
        adapter: Adapter on it; "none" scores the base alone.
        prompts: A file for `llmdiff generate --prompts`; the scene benchmark's prompts if None.
        limit: Of the scene benchmark, only so many prompts of each group.
        seeds: Pictures per prompt of the scene benchmark.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale.
        guidance_sweep: Scales at which the base is drawn too.
        siglip: Model of the SigLIP score; None computes none, and "embedded" only of picture-book scenes.
        clip: CLIP of CLIP-IQA; None computes none.
        features: Model of the features for distances to the reference, likewise.
        reference: Pictures that distances are taken to; those of the drawn scenes if None.
        device: Where the scoring models compute.
    """

    base: str = EMBEDDED
    adapter: str = EMBEDDED
    prompts: Path | None = None
    limit: int | None = 20
    seeds: int = 2
    steps: int = STEPS
    guidance: float = GUIDANCE
    guidance_sweep: tuple[float, ...] = (1.0, 2.0, 8.0, 20.0)
    siglip: str | None = EMBEDDED
    clip: str | None = None
    features: str | None = EMBEDDED
    reference: Path | None = None
    device: str | None = None


def evaluate_all(settings: Overview, out: Path, progress: Progress = silent) -> list[dict[str, Any]]:
    """Draws with base and adapter, and with the base at other scales of guidance, and computes every score there is.

    Args:
        settings: What is drawn and scored.
        out: A folder for pictures, within it one for these models, prompts and settings.
        progress: Shows how far it is.

    Returns:
        Rows as of `evaluate_pictures`, with systems "base", "base at 8", "adapted", "drawn" (the facts drawn by the
        domain itself: the best there is), and the differences of "adapted" to each of the first; of scenes also
        "consistency" and the "distance" of the adapter under each wording, which is of no pictures.

    Raises:
        LLMDiffError: A model cannot be loaded, or something can be neither drawn nor scored.

    Example:
        >>> small = Overview("my-sd", "none", limit=1, seeds=1, steps=1, guidance_sweep=(), siglip=None)
        >>> rows = evaluate_all(small, Path("evaluation"))
        >>> [row["system"] for row in rows if row["score"] == "scene"]
        ['base', 'drawn']
    """
    scenes, folder = _prompts_and_folder(settings, out)
    if not scenes or scenes[0].version != 1:
        settings = _without_embedded(settings)
    folders: dict[str, Path] = {}
    pictures: list[Listed] = []
    for system, (adapter, guidance) in _systems(settings).items():
        folders[system] = folder / system.replace(" ", "-")
        pictures = listed(_requests(settings, scenes, adapter, guidance), folders[system])
        _draw(pictures, system, progress)
    compared = [("adapted", other) for other in folders if "adapted" in folders and other != "adapted"]
    reference = settings.reference
    if scenes:
        folders["drawn"], drawn_again = _drawn(scenes, settings.seeds, pictures, folder)
        reference = reference or drawn_again
    features = settings.features if len(pictures) >= FEWEST else None
    rows = evaluate_pictures(
        folders,
        settings.siglip,
        settings.clip,
        settings.device,
        progress,
        scenes=bool(scenes),
        features=features,
        reference=reference if features else None,
        differences=compared,
    )
    return rows + (_of_scenes(settings, scenes, out, progress) if scenes else [])


def _prompts_and_folder(settings: Overview, out: Path) -> tuple[list[ScenePrompt], Path]:
    """The scene benchmark's prompts for the base, none where there is a file of others; and where pictures go.

    The name of the folder depends on the weights: pictures of a model that has been trained on are drawn anew.
    """
    if settings.prompts is not None and settings.features not in (None, EMBEDDED) and settings.reference is None:
        raise LLMDiffError("Distances of pictures of your own prompts need --reference, or --features none.")
    adapter = None if settings.adapter == "none" else settings.adapter
    renderer = Renderer.load(Models(base=settings.base, adapter=adapter))
    scenes = []
    if settings.prompts is None:
        scenes = scene_prompts(settings.limit, version_for(renderer.default_size()[0]))
    texts = [request.prompts for request in _requests(settings, scenes, "none", settings.guidance).values()]
    key = identity(renderer, scenes, texts, settings.seeds, settings.steps, settings.guidance)
    return scenes, out / json_hash(key)[:12]


def _without_embedded(settings: Overview) -> Overview:
    """The same, of pictures of which the embedded SigLIP knows nothing: other models than it are kept."""
    kept: dict[str, Any] = {
        name: None if (model := getattr(settings, name)) == EMBEDDED else model for name in ("siglip", "features")
    }
    if EMBEDDED in (settings.siglip, settings.features):
        sentence = (
            "The embedded SigLIP knows picture-book scenes alone, so it does not score these pictures: give --siglip "
            "and --features with models of your own."
        )
        if settings.prompts is not None and not any((*kept.values(), settings.clip)):
            raise LLMDiffError(sentence)
        warnings.warn(sentence, stacklevel=3)
    return replace(settings, **kept)


def _systems(settings: Overview) -> dict[str, tuple[str, float]]:
    """Adapter and guidance by the name of the system."""
    sweep = {f"base at {scale:g}": ("none", scale) for scale in settings.guidance_sweep if scale != settings.guidance}
    adapted = {"adapted": (settings.adapter, settings.guidance)} if settings.adapter != "none" else {}
    return {"base": ("none", settings.guidance)} | sweep | adapted


def _requests(
    settings: Overview, scenes: Sequence[ScenePrompt], adapter: str, guidance: float
) -> dict[int, GenerationRequest]:
    order = {"base": settings.base, "adapter": adapter, "steps": settings.steps, "guidance": guidance, "seed": 0}
    if settings.prompts is not None:
        return read_prompt_file(settings.prompts, order)
    of_scenes = order | {"num": settings.seeds}
    return {
        number: GenerationRequest.model_validate(of_scenes | {"prompts": [one.prompt]})
        for number, one in enumerate(scenes, 1)
    }


def _draw(pictures: Sequence[Listed], system: str, progress: Progress) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_CUT)
        for _ in draw_listed(pictures, _BATCH, lambda stage, share: progress(f"{stage}: {system}", share)):
            pass


def _drawn(scenes: Sequence[ScenePrompt], seeds: int, pictures: Sequence[Listed], folder: Path) -> tuple[Path, Path]:
    """Folders of pictures of the facts as the domain draws them: under the names of the others, and a second time."""
    found = []
    for number, name in enumerate(("drawn", "reference")):
        for place, listed_picture in enumerate(pictures):
            prompt = scenes[place // seeds]
            rng = np.random.default_rng((_SEED, number, place))
            path = folder / name / listed_picture.path.name
            if not path.is_file():
                _save(Image.fromarray(DOMAINS[prompt.version].drawn(prompt.facts, rng)), prompt.prompt, path)
        found.append(folder / name)
    return found[0], found[1]


def _save(image: Image.Image, prompt: str, path: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(written_whole(path.with_suffix(".txt"))).write_text(prompt, encoding="utf-8")
        image.save(stack.enter_context(written_whole(path)), "PNG")


def _of_scenes(
    settings: Overview, scenes: Sequence[ScenePrompt], out: Path, progress: Progress
) -> list[dict[str, Any]]:
    """Rows of the scores that draw or predict for themselves."""
    models: dict[str, Any] = {"base": settings.base, "adapter": settings.adapter, "keep_in": out, "progress": progress}
    few = max(1, (settings.limit or 20) // 4)
    rows = [
        _row("consistency", row["model"].replace("difference", "adapted - base"), row["same"], row["low"], row["high"])
        | {"prompts": row["scenes"], "pictures": row["scenes"] * row["wordings"]}
        for row in evaluate_consistency(
            scenes=few, steps=settings.steps, guidance=settings.guidance, version=scenes[0].version, **models
        )
    ]
    if settings.adapter == "none":
        return rows
    distances = [row for row in evaluate_distance(count=few, **models) if row["things"] == "all"]
    return rows + [
        _row(f"distance, {row['wording']}", "adapted", row["distance"], row["low"], row["high"])
        | {"prompts": few * len(THINGS)}
        for row in distances
    ]


def _row(score: str, system: str, mean: float, low: float, high: float) -> dict[str, Any]:
    about = {"score": score, "model": "checker" if score == "consistency" else "", "revision": "", "system": system}
    return about | {"prompts": 0, "pictures": 0, "in_pieces": 0, "mean": mean, "low": low, "high": high}
