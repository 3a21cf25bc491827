"""The scene benchmark's prompts: in groups, each prompt with the facts that its picture must show.

The prompts are fixed: version 1 is `scene_prompts_v1.json`, made once by `recipes/make_prompts.py` and never changed;
version 2, of the world of real things, is `scene_prompts_v2.json`, made by `recipes/world/make_prompts.py`. A new idea
gets a new version.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from llmdiff.models import EMBEDDED, EMBEDDED_WORLD
from llmdiff.scenes.facts import Backdrop, Count, Fact, Look, Related

VERSION = 1
GROUPS = ("plain", "binding", "relations", "counting", "long", "unseen words")


@dataclass(frozen=True)
class ScenePrompt:
    """A prompt, its group, and what its picture must show."""

    group: str
    prompt: str
    facts: tuple[Fact, ...]
    version: int = VERSION
    """Of the prompts that it is one of."""


def scene_prompts(limit: int | None = None, version: int = VERSION) -> list[ScenePrompt]:
    """The benchmark's prompts of a version, or the first `limit` of each group.

    Example:
        >>> prompts = scene_prompts(limit=2)
        >>> len(prompts), prompts[0].group
        (12, 'plain')
    """
    prompts = _read(f"scene_prompts_v{version}.json", version)
    return [p for group in groups(prompts) for p in [q for q in prompts if q.group == group][:limit]]


def implied_prompts(limit: int | None = None) -> list[ScenePrompt]:
    """Prompts of the domain of version 1 that name neither thing nor colour nor background, and imply them.

    Made once by `recipes/proxy_study/make_prompts.py`, and never changed.

    Example:
        >>> implied_prompts(1)[0].prompt
        'what the tides follow, like a carrot, at the end of the day, when the sky glows'
    """
    return _read("implied_prompts_v1.json", 1)[:limit]


def groups(prompts: Sequence[ScenePrompt]) -> list[str]:
    """The groups of prompts, in their order."""
    return list(dict.fromkeys(prompt.group for prompt in prompts))


def demo_prompts(per_group: int = 4) -> list[ScenePrompt]:
    """The prompts of the demo: the last few of each group."""
    prompts = scene_prompts()
    return [p for group in GROUPS for p in [q for q in prompts if q.group == group][-per_group:]]


def known_prompts(base: str, per_group: int = 4) -> list[str]:
    """Prompts that a base model by its name is known for, the first few of each group; none of a user's own.

    Example:
        >>> len(known_prompts("embedded")), known_prompts("my-sd")
        (24, [])
    """
    versions = {EMBEDDED: 1, EMBEDDED_WORLD: 2}
    return [one.prompt for one in scene_prompts(per_group, versions[base])] if base in versions else []


_FACTS: dict[str, Callable[[dict[str, Any]], Fact]] = {
    "count": lambda row: Count(Look(**row["look"]), row["n"]),
    "related": lambda row: Related(Look(**row["a"]), row["relation"], Look(**row["b"])),
    "backdrop": lambda row: Backdrop(row["name"]),
}


def _read(name: str, version: int) -> list[ScenePrompt]:
    rows = json.loads((files("llmdiff.evaluation") / name).read_text("utf-8"))
    return [ScenePrompt(row["group"], row["prompt"], _facts(row["facts"]), version) for row in rows]


def _facts(rows: list[dict[str, Any]]) -> tuple[Fact, ...]:
    return tuple(_FACTS[row["fact"]](row) for row in rows)
