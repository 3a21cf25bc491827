"""The options that name a proxy, of all commands that have one."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from llmdiff.errors import LLMDiffError

Url = Annotated[
    str | None,
    typer.Option(
        "--proxy",
        metavar="URL",
        help="OpenAI-compatible API that rewrites the prompts, such as http://localhost:8000/v1.",
    ),
]
Model = Annotated[str | None, typer.Option("--proxy-model", metavar="NAME", help="Its model.")]
Instruction = Annotated[
    Path | None,
    typer.Option(
        "--proxy-instruction",
        metavar="FILE",
        help="What it is told to do, in a text file.",
        show_default="see docs/proxy.md",
    ),
]
Rewritings = Annotated[
    int, typer.Option(metavar="N", help="Answers of the proxy; picture n of a prompt is drawn from the nth, in turn.")
]
Average = Annotated[
    bool,
    typer.Option("--average-rewritings", help="Draw each picture from all answers at once, in N times the time."),
]
KeyEnv = Annotated[
    str | None,
    typer.Option(
        "--proxy-key-env", metavar="NAME", help="Environment variable of its key.", show_default="OPENAI_API_KEY"
    ),
]
Timeout = Annotated[float, typer.Option("--proxy-timeout", metavar="SECONDS", help="For an answer of the proxy.")]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--proxy-temperature", help="Of the proxy's sampling.", show_default="0 for one answer, 1 for several"
    ),
]


def with_proxy(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of a proxy in the place of its parameter ``proxy``, which gets what they name.

    Args:
        command: its ``proxy`` is a `ProxyConfig`; None without --proxy.
    """
    own, options = inspect.signature(command), inspect.signature(_proxy_of).parameters.values()
    parameters = [one for mine in own.parameters.values() for one in (options if mine.name == "proxy" else [mine])]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        named = {one.name: given.pop(one.name) for one in options if one.name in given}
        command(**given, proxy=_proxy_of(**named))

    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]  # where Typer looks
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _proxy_of(
    proxy: Url = None,
    proxy_model: Model = None,
    proxy_instruction: Instruction = None,
    rewritings: Rewritings = 1,
    average_rewritings: Average = False,
    proxy_key_env: KeyEnv = None,
    proxy_timeout: Timeout = 60.0,
    proxy_temperature: Temperature = None,
) -> Any:
    """The `ProxyConfig` of the options; None without --proxy.

    Raises:
        LLMDiffError: they do not fit together, one will not do, or the key in the environment will not.
    """
    others = (proxy_model, proxy_instruction, proxy_key_env, proxy_temperature)
    if proxy is None:
        if any(one is not None for one in others) or average_rewritings or rewritings != 1:
            raise LLMDiffError("There is no --proxy that the other options of a proxy could be about: give its URL.")
        return None
    if proxy_model is None:
        raise LLMDiffError("With --proxy there must be --proxy-model, the name of a model at that endpoint.")
    from llmdiff.proxy import ProxyConfig
    from llmdiff.proxy.instruction import read_instruction

    given: dict[str, Any] = {} if proxy_instruction is None else {"instruction": read_instruction(proxy_instruction)}
    config = ProxyConfig(
        url=proxy, model=proxy_model, rewritings=rewritings, average=average_rewritings, key_env=proxy_key_env,
        timeout=proxy_timeout, temperature=proxy_temperature, **given,
    )  # fmt: skip
    config.key()
    return config
