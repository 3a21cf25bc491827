"""`llmdiff serve`: pictures for programs, by the images API that clients of OpenAI's speak."""

import os
from typing import Annotated, Any

import typer

from llmdiff.cli import console, model_options, serving_options
from llmdiff.cli.proxy_options import with_proxy
from llmdiff.errors import LLMDiffError
from llmdiff.extras import extra
from llmdiff.loopback import is_loopback

_KEY = "LLMDIFF_API_KEY"


@with_proxy
def serve(
    base: model_options.Base = "embedded",
    base_config: model_options.BaseConfig = None,
    adapter: model_options.Adapter = None,
    llm: model_options.Llm = None,
    quantization: model_options.Quantization = None,
    device: model_options.Device = None,
    host: serving_options.Host = serving_options.HERE,
    port: serving_options.Port = 8000,
    api_key_env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Variable that has the key which clients must send.", show_default=f"{_KEY}, if set"
        ),
    ] = None,
    model_name: Annotated[str, typer.Option(help="What clients call the model.")] = "llmdiff",
    steps: Annotated[int, typer.Option(help="Steps of a picture whose request does not say.")] = 30,
    guidance: Annotated[float, typer.Option(help="Guidance of one.")] = 5.0,
    scale: Annotated[float, typer.Option(help="Strength of the adapter of one.")] = 1.0,
    max_n: Annotated[int, typer.Option(help="Pictures of a request, at most.")] = 10,
    max_steps: Annotated[int, typer.Option(help="Steps of a picture, at most.")] = 100,
    max_pixels: Annotated[
        int | None,
        typer.Option(help="Width times height, at most.", show_default="four times those of the base model"),
    ] = None,
    max_prompt: Annotated[int, typer.Option(help="Characters of a prompt, at most.")] = 32_000,
    max_body: Annotated[int, typer.Option(help="Bytes of a request, at most.")] = 2**20,
    queue: Annotated[int, typer.Option(help="Pictures that wait, at most; further requests are turned away.")] = 64,
    batch_size: Annotated[
        int, typer.Option(help="Waiting pictures that are drawn in one call; more change their last bits.")
    ] = 1,
    timeout: Annotated[float, typer.Option(help="Seconds from a request to its last picture.")] = 300,
    client_timeout: Annotated[float, typer.Option(help="Seconds that a client may take to send or to read.")] = 20,
    connections: Annotated[int, typer.Option(help="Open at once.")] = 256,
    grace: Annotated[int, typer.Option(help="Seconds to be done in, when the server is told to end.")] = 30,
    proxy: Any = None,
    ray: Annotated[bool, typer.Option("--ray", help="Draw on replicas of Ray Serve, on one machine or many.")] = False,
    replicas: Annotated[int, typer.Option(min=1, help="Of --ray: how many.")] = 1,
    replica_gpus: Annotated[
        float | None,
        typer.Option(min=0, help="Of --ray: GPUs of each.", show_default="1 where there are any"),
    ] = None,
) -> None:
    """Serve pictures over HTTP: POST /v1/images/generations, as OpenAI's client sends it.

    The models are those of the command line; no request can name others. docs/server.md has examples.
    """
    with extra("serve"):
        from llmdiff.server.config import ServerConfig
    config = ServerConfig.make(
        models=_models(base=base, base_config=base_config, adapter=adapter, llm=llm, quantization=quantization),
        **dict(device=device, model_name=model_name, api_key=_key(api_key_env)),
        **dict(steps=steps, guidance=guidance, scale=scale, batch_size=batch_size),
        **dict(max_n=max_n, max_steps=max_steps, max_pixels=max_pixels, max_prompt=max_prompt, max_body=max_body),
        proxy=proxy,
        **dict(queue=queue, timeout=timeout, client_timeout=client_timeout, connections=connections, grace=grace),
    )
    if not is_loopback(host) and config.api_key is None:
        console.say("warning", f"Everybody who reaches {host} can draw: no API key is set.", "yellow")
    console.rest_when_waiting()
    console.quiet_hosts()
    if ray:
        _serve_replicas(config, host, port, replicas, replica_gpus)
    else:
        _serve(config, host, port)


def _serve(config: Any, host: str, port: int) -> None:
    with extra("serve"):
        from llmdiff.server.running import run_server
    run_server(config, host, port, _started)


def _serve_replicas(config: Any, host: str, port: int, replicas: int, gpus: float | None) -> None:
    with extra("ray"):
        from llmdiff.server.ray_replicas import run_replicas
    run_replicas(config, host, port, replicas, gpus, _started)


def _models(**names: str | None) -> Any:
    """The models that are named, checked as `llmdiff generate` does."""
    from llmdiff.generation import GenerationRequest

    return GenerationRequest.model_validate(names | {"prompts": ["-"]}).models()


def _key(variable: str | None) -> str | None:
    """The key that a variable of the environment has."""
    key = os.environ.get(variable or _KEY, "").strip()
    if variable is not None and not key:
        raise LLMDiffError(f"The variable {variable} has no key: set it, or leave --api-key-env out.")
    return key or None


def _started(address: str) -> None:
    console.print_line(f"Serving at {address}")
