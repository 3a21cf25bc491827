"""What a proxy is worth: pictures of prompts as they are beside pictures of what it makes of them.

"what the tides follow, like a carrot" is right when the picture shows an orange moon. Both pictures are drawn from the
same noise, by the base model and by the adapted one, and read as those of the scene benchmark.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from llmdiff.evaluation.bootstrap import interval
from llmdiff.evaluation.domains import DOMAINS
from llmdiff.evaluation.prompts import ScenePrompt, groups
from llmdiff.evaluation.scenes import GUIDANCE, STEPS
from llmdiff.generation import GenerationRequest, Models, PictureSettings, Renderer
from llmdiff.generation.call import kind
from llmdiff.progress import Progress, silent
from llmdiff.proxy import ProxyConfig, Rewriter, Rewriting

_BATCH = 12  # pictures per call of the pipeline
_SHARES = ("share", "facts")
_Scores = dict[str, np.ndarray]


def evaluate_proxy(
    proxy: ProxyConfig,
    prompts: Sequence[ScenePrompt],
    base: str = "embedded",
    adapter: str = "embedded",
    seeds: int = 2,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Draws prompts as they are and as a proxy rewrites them, with and without the adapter, from the same noise.

    Args:
        proxy: The endpoint, and whether several of its answers are averaged.
        prompts: With the facts that their pictures must show.
        base: Base model.
        adapter: Adapter on it; "none" evaluates the base alone.
        seeds: Pictures per prompt.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale.
        progress: Shows how far it is.

    Returns:
        Rows of group, model ("base" or "adapted"), wording ("as it is", "rewritten", "gain"), prompts, rewritten (how
        many of them have a usable answer), share (of pictures right in every fact), low and high (95 % bootstrap over
        prompts), and facts (mean share of facts).

    Raises:
        LLMDiffError: A model cannot be loaded.

    Example:
        >>> proxy = ProxyConfig(url="http://localhost:9/v1", model="nobody")
        >>> prompts = scene_prompts(1)[:1]
        >>> rows = evaluate_proxy(proxy, prompts, adapter="none", seeds=1, steps=2)
        UserWarning: The proxy 'nobody' cannot be reached: the prompt is drawn as it is.
        >>> [(row["model"], row["wording"], row["rewritten"]) for row in rows]
        [('base', 'as it is', 0), ('base', 'rewritten', 0), ('base', 'gain', 0)]
    """
    progress("Asking the proxy", 0.0)
    rewritings = Rewriter(proxy).rewrite(prompt.prompt for prompt in prompts)
    renderer = Renderer.load(Models(base=base, adapter=None if adapter == "none" else adapter))
    scores: dict[tuple[str, str], _Scores] = {}
    for model in ("base", "adapted") if renderer.adapter else ("base",):
        for wording, texts in (("as it is", {}), ("rewritten", rewritings)):
            settings = _settings(renderer, proxy, prompts, texts, seeds, steps, guidance)
            with renderer.base_alone() if model == "base" else nullcontext():
                scores[model, wording] = _scores(renderer, settings, prompts, f"{model}, {wording}", progress)
        after, before = scores[model, "rewritten"], scores[model, "as it is"]
        scores[model, "gain"] = {name: after[name] - before[name] for name in _SHARES}
    return [
        _row(group, model, wording, found, prompts, rewritings)
        for group in groups(prompts)
        for (model, wording), found in scores.items()
    ]


def _settings(
    renderer: Renderer,
    proxy: ProxyConfig,
    prompts: Sequence[ScenePrompt],
    rewritings: Mapping[str, Rewriting],
    seeds: int,
    steps: int,
    guidance: float,
) -> list[PictureSettings]:
    """Those of every picture, prompt by prompt; seeds are counted from 0."""
    request = GenerationRequest(
        prompts=[prompt.prompt for prompt in prompts], seed=0, num=seeds, steps=steps, guidance=guidance, proxy=proxy
    )
    return request.pictures(renderer.default_size(), rewritings)


def _scores(
    renderer: Renderer, settings: Sequence[PictureSettings], prompts: Sequence[ScenePrompt], stage: str, tell: Progress
) -> _Scores:
    """By "share" (of pictures right in every fact) and "facts": the mean over each prompt's pictures, (P,)."""
    held: dict[int, list[bool]] = {}
    of = [prompt for prompt in prompts for _ in range(len(settings) // len(prompts))]
    for batch in _batches(settings):
        images = renderer.draw_batch([settings[n] for n in batch])
        for n, image in zip(batch, images, strict=True):
            scene = DOMAINS[of[n].version].read(image)
            held[n] = [fact.holds(scene) for fact in of[n].facts]
        tell(stage, len(held) / len(settings))
    rows = [held[n] for n in range(len(settings))]
    values = {"share": [float(all(row)) for row in rows], "facts": [sum(row) / len(row) for row in rows]}
    return {name: np.array(found).reshape(len(prompts), -1).mean(1) for name, found in values.items()}


def _batches(settings: Sequence[PictureSettings]) -> Iterator[list[int]]:
    """Numbers of pictures that are drawn in one call."""
    by_kind: dict[tuple[Any, ...], list[int]] = {}
    for n, one in enumerate(settings):
        by_kind.setdefault(kind(one), []).append(n)
    for same in by_kind.values():
        yield from (same[first : first + _BATCH] for first in range(0, len(same), _BATCH))


def _row(
    group: str,
    model: str,
    wording: str,
    found: _Scores,
    prompts: Sequence[ScenePrompt],
    rewritings: Mapping[str, Rewriting],
) -> dict[str, Any]:
    own = np.array([prompt.group == group for prompt in prompts])
    share = found["share"][own]
    low, high = interval(share)
    return {
        "group": group,
        "model": model,
        "wording": wording,
        "prompts": len(share),
        "rewritten": sum(prompt.prompt in rewritings for prompt in prompts if prompt.group == group),
        "share": float(share.mean()),
        "low": low,
        "high": high,
        "facts": float(found["facts"][own].mean()),
    }
