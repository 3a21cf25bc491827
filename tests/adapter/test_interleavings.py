"""Whatever is called in whatever order, each row reads its own prompt: random programs beside a slow reference.

The reference runs every row alone, on a pipeline that was built for it and an adapter that was attached for it.
"""

import copy
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapter.families import FAMILIES, Family
from adapter.tiny import perturb
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.base import ImageModel
from llmdiff.errors import LLMDiffError
from tiny_llm import build_llama
from tiny_parts import silenced

PROMPTS = ("a red cup", "blue", "", "a long row of blue cups and bowls")
TIMESTEP, NOISES = 300, 2
ATTACHED, OTHER, UNATTACHED = "the first pipeline", "an attached sibling", "an unattached sibling"
DRAWN = ("SD 1.x", "SDXL", "PixArt", "Sana")


@dataclass(frozen=True)
class Row:
    """One row of a denoiser call: a prompt, whether as a negative one, and the noise."""

    prompt: str
    negative: bool
    noise: int


@dataclass(frozen=True)
class Calls:
    """Calls of the denoiser, of rows of text features of one pipeline.

    Attributes:
        rows: in their order.
        at_once: how many of them in a call.
        kept: whether their text features are those of an earlier call, as far as there are any.
        together: whether their prompts are encoded in one call.
        fails: whether a call fails half way first.
    """

    rows: tuple[Row, ...]
    at_once: int
    kept: bool
    together: bool
    fails: bool


@dataclass(frozen=True)
class Pictures:
    """A call of a pipeline."""

    prompts: tuple[str, ...]
    negative: str
    each: int


@dataclass(frozen=True)
class Step:
    """What is done at a time: one thing, or two things in two threads; and the dial meanwhile."""

    actions: tuple[Calls | Pictures, ...]
    pipes: tuple[str, ...]
    scale: float
    enabled: bool


rows = st.builds(Row, st.sampled_from(PROMPTS), st.booleans(), st.integers(0, NOISES - 1))
calls = st.builds(
    Calls,
    st.lists(rows, min_size=1, max_size=4).map(tuple),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
pictures = st.builds(
    Pictures,
    st.lists(st.sampled_from(PROMPTS), min_size=1, max_size=2).map(tuple),
    st.sampled_from(PROMPTS),
    st.integers(1, 2),
)
actions = st.lists(st.one_of(calls, calls, pictures), min_size=1, max_size=2).map(tuple)
pipes = st.permutations([ATTACHED, OTHER, UNATTACHED]).map(tuple)
steps = st.builds(Step, actions, pipes, st.sampled_from([1.0, 1.0, 0.4, 0.0]), st.sampled_from([True, True, False]))


@functools.cache
def llm() -> Any:
    return build_llama()


def make(family: Family, pipe: Any, mode: Any) -> LLMDiffAdapter:
    return perturb(LLMDiffAdapter.create(pipe, llm(), mode=mode))


def noise(index: int, side: int = 8) -> Tensor:
    return torch.randn(4, side, side, generator=torch.Generator().manual_seed(index))


def text_of(results: dict[str, Tensor], row: int, negative: bool) -> dict[str, Any]:
    """What the denoiser is given of one row of what ``encode_prompt`` returned."""
    sign = "negative_" if negative else ""
    inputs: dict[str, Any] = {"encoder_hidden_states": results[f"{sign}prompt_embeds"][row : row + 1]}
    if f"{sign}prompt_attention_mask" in results:
        inputs["encoder_attention_mask"] = results[f"{sign}prompt_attention_mask"][row : row + 1]
    if f"{sign}pooled_prompt_embeds" in results:
        inputs["added_cond_kwargs"] = {"text_embeds": results[f"{sign}pooled_prompt_embeds"][row : row + 1]}
    return inputs


def stacked(inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """The inputs of several rows as those of one call; of a single row, the very same tensors."""
    if len(inputs) == 1:
        return inputs[0]
    parts = {name: [one[name] for one in inputs] for name in inputs[0]}
    return {name: stacked(part) if isinstance(part[0], dict) else torch.cat(part) for name, part in parts.items()}


@torch.no_grad()
def predict(pipe: Any, text: dict[str, Any], noises: list[int]) -> Tensor:
    times = torch.full((len(noises),), TIMESTEP)
    return ImageModel(pipe).predict(torch.stack([noise(one) for one in noises]), times, text)


@functools.cache
def alone(family: str, mode: str | None, scale: float, row: Row) -> Tensor:
    """The slow reference of a row of a denoiser call; without a mode, the base model's own."""
    pipe = fresh(family, mode, scale)
    results = FAMILIES[family].encode(pipe, [row.prompt], [row.prompt])
    return predict(pipe, text_of(results, 0, row.negative), [row.noise])[0]


@functools.cache
def picture_alone(family: str, mode: str | None, scale: float, prompt: str, negative: str) -> Tensor:
    """The slow reference of a picture."""
    return drawn(FAMILIES[family], fresh(family, mode, scale), Pictures((prompt,), negative, 1))[0]


def fresh(family: str, mode: str | None, scale: float) -> Any:
    pipe = FAMILIES[family].build()
    if mode is not None:
        make(FAMILIES[family], pipe, mode).attach(pipe).scale = scale
    return pipe


def drawn(family: Family, pipe: Any, action: Pictures) -> Tensor:
    side = family.options.get("height", 16) // pipe.vae_scale_factor
    start = noise(9, side).expand(len(action.prompts) * action.each, -1, -1, -1)
    negatives = [action.negative] * len(action.prompts)
    options = {"negative_prompt": negatives, "num_images_per_prompt": action.each, "latents": start}
    return family.draw(pipe, list(action.prompts), num_inference_steps=1, **options)


class World:
    """The pipelines that a family's programs run on, one after the other: they share everything, and keep it."""

    def __init__(self, name: str, mode: str) -> None:
        self.name, self.mode, self.family = name, mode, FAMILIES[name]
        first = self.family.build()
        other = self._sibling(first, "scheduler")
        # Threads that share a tokenizer meet its race, which only the lock of attached pipelines closes.
        unattached = self._sibling(first, "scheduler", *(name for name in first.components if "tokenizer" in name))
        self.pipes = {ATTACHED: first, OTHER: other, UNATTACHED: unattached}
        self.adapter = make(self.family, first, mode).attach(first).attach(other)
        self.kept: dict[tuple[str, str, bool], dict[str, Any]] = {}

    def _sibling(self, first: Any, *own: str) -> Any:
        """A pipeline of the same components, save copies of those that it is to have for its own."""
        parts = first.components | {name: copy.deepcopy(first.components[name]) for name in own}
        return silenced(type(first)(**parts, **self.family.settings))

    def run(self, step: Step) -> None:
        self.adapter.scale = step.scale
        if step.enabled:
            self._act(step)
        else:
            with self.adapter.disable_adapter():
                self._act(step)

    def _act(self, step: Step) -> None:
        """Each action in a thread of its own, save a single one."""
        found: list[Any] = [None] * len(step.actions)

        def work(i: int) -> None:
            try:
                found[i] = self._result(step.actions[i], step.pipes[i], step.enabled)
            except Exception as error:  # of a thread, for `_check` to raise
                found[i] = error

        threads = [threading.Thread(target=work, args=(i,)) for i in range(1, len(step.actions))]
        for thread in threads:
            thread.start()
        work(0)
        for thread in threads:
            thread.join()
        for action, pipe, result in zip(step.actions, step.pipes, found, strict=False):
            self._check(step, action, pipe, result)

    def _result(self, action: Calls | Pictures, name: str, enabled: bool) -> Tensor:
        pipe = self.pipes[name]
        if isinstance(action, Pictures):
            return drawn(self.family, pipe, self._possible(action, name, enabled))
        inputs = self._inputs(action, name, enabled)
        if action.fails:
            self._fail(pipe, inputs[0])
        results: list[Tensor] = []
        chunks = range(0, len(inputs), action.at_once)
        for chunk, some in [(inputs[i : i + action.at_once], action.rows[i : i + action.at_once]) for i in chunks]:
            noises = [row.noise for row in some]
            widths = {one["encoder_hidden_states"].shape[-1] for one in chunk}
            if len(widths) == 1:
                results.append(predict(pipe, stacked(chunk), noises))
            else:  # prompts of different lengths that were encoded apart cannot be stacked
                results += [predict(pipe, one, [index]) for one, index in zip(chunk, noises, strict=True)]
        return torch.cat(results)

    def _possible(self, action: Pictures, name: str, enabled: bool) -> Pictures:
        """diffusers mixes up the masks of several pictures of several prompts in some pipelines, if it makes them."""
        stock = name == UNATTACHED or not enabled or self.mode == "augment"
        mixed_up = stock and self.family.lack("pictures per prompt", "augment")
        return Pictures(action.prompts, action.negative, 1) if mixed_up else action

    def _inputs(self, action: Calls, name: str, enabled: bool) -> list[dict[str, Any]]:
        """What the denoiser is given of each row; the features of attached pipelines are kept."""
        prompts = [row.prompt for row in action.rows]
        groups = [prompts] if action.together else [[prompt] for prompt in prompts]
        made: list[dict[str, Any]] = []
        for group in groups:
            results = self.family.encode(self.pipes[name], group, group)
            made += [text_of(results, i, action.rows[len(made) + i].negative) for i in range(len(group))]
        if not enabled:
            return made
        if action.kept:
            made = [
                self.kept.get((name, row.prompt, row.negative), new) for row, new in zip(action.rows, made, strict=True)
            ]
        for row, inputs in zip(action.rows, made, strict=True):
            self.kept[name, row.prompt, row.negative] = inputs
        return made

    def _fail(self, pipe: Any, inputs: dict[str, Any]) -> None:
        """A call of the denoiser that fails in its last layer, in this thread."""
        me = threading.get_ident()

        def fail(*_: Any) -> None:
            if threading.get_ident() == me:
                raise ZeroDivisionError

        handle = list(ImageModel(pipe).layers.values())[-1].register_forward_pre_hook(fail)
        try:
            with pytest.raises(ZeroDivisionError):
                predict(pipe, inputs, [0])
        finally:
            handle.remove()

    def _check(self, step: Step, action: Calls | Pictures, name: str, result: Any) -> None:
        """Holds what came out to the reference."""
        if name == UNATTACHED and step.enabled and self.mode == "replace":
            assert isinstance(result, LLMDiffError), result
            assert "attach siblings too" in str(result)
            return
        mode = None if name == UNATTACHED or not step.enabled else self.mode
        if isinstance(action, Calls):
            wanted = [alone(self.name, mode, step.scale, row) for row in action.rows]
        else:
            each = self._possible(action, name, step.enabled).each
            pictures = [picture_alone(self.name, mode, step.scale, one, action.negative) for one in action.prompts]
            wanted = [picture for picture in pictures for _ in range(each)]
        if isinstance(result, Exception):
            raise result
        assert len(result) == len(wanted)
        for found, expected in zip(result, wanted, strict=True):
            assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4), (found - expected).abs().max()


@functools.cache
def world(name: str, mode: str) -> World:
    return World(name, mode)


@pytest.mark.parametrize("name", DRAWN)
@settings(
    max_examples=3,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(program=st.lists(steps, min_size=1, max_size=4))
@example(program=[Step((Pictures(("", PROMPTS[3]), "blue", 2),), (ATTACHED, OTHER, UNATTACHED), 0.4, False)])
def test_every_row_reads_its_own_prompt(name: str, mode: str, program: list[Step]) -> None:
    for step in program:
        world(name, mode).run(step)


@pytest.mark.parametrize("name", DRAWN)
def test_the_reference_tells_rows_apart(name: str, mode: str) -> None:
    """Else nothing above could fail."""
    told: list[Callable[[], Tensor]] = [
        lambda: alone(name, mode, 1.0, Row("blue", False, 0)),
        lambda: alone(name, mode, 1.0, Row("a red cup", False, 0)),
        lambda: alone(name, mode, 0.4, Row("blue", False, 0)),
        lambda: alone(name, None, 1.0, Row("blue", False, 0)),
    ]
    results = [one() for one in told]
    for i, result in enumerate(results):
        assert all((result - other).abs().max() > 1e-2 for other in results[:i])
