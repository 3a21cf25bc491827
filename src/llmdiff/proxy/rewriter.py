"""Prompts in, rewritings out: from the cache, or from an endpoint; where neither has one, the prompt stays as it is."""

import asyncio
import warnings
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from llmdiff.proxy.answer import NoAnswerError
from llmdiff.proxy.config import ProxyConfig
from llmdiff.proxy.endpoint import Endpoint
from llmdiff.proxy.rewriting import Rewriting
from llmdiff.proxy.store import RewritingStore, default_store, key_of

_AT_ONCE = 4  # questions to one endpoint
_Result = TypeVar("_Result")


class Rewriter:
    """Has a proxy rewrite prompts.

    What fails costs a warning and not the picture: a prompt without a usable answer is drawn as it is. An endpoint that
    cannot be reached, or does not accept the key, is not asked again.

    Args:
        config: which endpoint, and how it is asked.
        store: where answers are kept; None takes the one in ``LLMDIFF_HOME``.
        tell: called with what fails, in a sentence, in the place of a warning.

    Raises:
        LLMDiffError: the key in the environment will not do.

    Example:
        >>> rewriter = Rewriter(ProxyConfig(url="http://localhost:9/v1", model="nobody"))
        >>> rewriter.rewrite(["the animal that barks"])
        UserWarning: The proxy 'nobody' cannot be reached: the prompt is drawn as it is.
        {}
    """

    def __init__(
        self, config: ProxyConfig, store: RewritingStore | None = None, tell: Callable[[str], object] | None = None
    ) -> None:
        config.key()
        self.config = config
        self._store = store or default_store()
        self._tell = tell
        self._lost: NoAnswerError | None = None

    def rewrite(self, prompts: Iterable[str]) -> dict[str, Rewriting]:
        """The rewritings of those prompts that have some, by prompt. May be called where an event loop runs, too."""
        return _run(self.rewrite_async(prompts))

    async def rewrite_async(self, prompts: Iterable[str]) -> dict[str, Rewriting]:
        """As `rewrite`, for a server's own event loop."""
        jobs = [(prompt, n) for prompt in dict.fromkeys(prompts) for n in range(self.config.rewritings)]
        found = {job: self._kept(*job) for job in jobs}
        missing = [job for job in jobs if found[job] is None]
        faults: dict[tuple[str, int], NoAnswerError] = {}
        if missing:
            answers = await self._ask_all(missing)
            for job, answer in zip(missing, answers, strict=True):
                if isinstance(answer, NoAnswerError):
                    faults[job] = answer
                else:
                    found[job] = answer
                    self._keep(*job, answer)
        texts: dict[str, list[str]] = {}
        for (prompt, _), text in found.items():
            texts.setdefault(prompt, []).extend([text] if text is not None else [])
        self._warn(texts, faults)
        return {prompt: self._rewriting(all_of_it) for prompt, all_of_it in texts.items() if all_of_it}

    def _rewriting(self, texts: list[str]) -> Rewriting:
        return Rewriting(model=self.config.model, instruction=self.config.instruction, texts=tuple(texts))

    async def _ask_all(self, jobs: list[tuple[str, int]]) -> list[str | NoAnswerError]:
        gate = asyncio.Semaphore(_AT_ONCE)
        async with Endpoint(self.config) as endpoint:

            async def ask(prompt: str, number: int) -> str | NoAnswerError:
                async with gate:
                    if self._lost is not None:
                        return self._lost
                    try:
                        return await endpoint.ask(prompt, number)
                    except NoAnswerError as fault:
                        if fault.lasting:
                            self._lost = fault
                        return fault

            return await asyncio.gather(*(ask(*job) for job in jobs))

    def _kept(self, prompt: str, number: int) -> str | None:
        return self._store.get(key_of(self.config, prompt, number)) if self._store else None

    def _keep(self, prompt: str, number: int, text: str) -> None:
        if self._store:
            self._store.put(key_of(self.config, prompt, number), text)

    def _warn(self, texts: Mapping[str, list[str]], faults: Mapping[tuple[str, int], NoAnswerError]) -> None:
        if not faults:
            return
        as_they_are = sum(not found for found in texts.values())
        if as_they_are == 0:
            rest = f"{len(faults)} of {len(texts) * self.config.rewritings} rewritings are missing"
        elif len(texts) == 1:
            rest = "the prompt is drawn as it is"
        else:
            rest = f"{as_they_are} of {len(texts)} prompts are drawn as they are"
        first = next(iter(faults.values()))
        sentence = f"The proxy {self.config.model!r} {first}: {rest}."
        self._tell(sentence) if self._tell else warnings.warn(sentence, stacklevel=2)


def _run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of a coroutine, also within a notebook or a server, whose threads have a loop of their own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
