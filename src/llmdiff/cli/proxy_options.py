"""The options that name a proxy, of all commands that have one."""

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


def proxy_of(
    url: str | None,
    model: str | None,
    instruction: Path | None,
    rewritings: int,
    average: bool,
    key_env: str | None,
    timeout: float,
    temperature: float | None,
) -> Any:
    """The `ProxyConfig` of the options; None without --proxy.

    Raises:
        LLMDiffError: they do not fit together, one will not do, or the key in the environment will not.
    """
    if url is None:
        if model or instruction or key_env or average or rewritings != 1 or temperature is not None:
            raise LLMDiffError("There is no --proxy that the other options of a proxy could be about: give its URL.")
        return None
    if model is None:
        raise LLMDiffError("With --proxy there must be --proxy-model, the name of a model at that endpoint.")
    from llmdiff.proxy import ProxyConfig
    from llmdiff.proxy.instruction import read_instruction

    given: dict[str, Any] = {} if instruction is None else {"instruction": read_instruction(instruction)}
    config = ProxyConfig(
        url=url, model=model, rewritings=rewritings, average=average, key_env=key_env, timeout=timeout,
        temperature=temperature, **given,
    )  # fmt: skip
    config.key()
    return config
