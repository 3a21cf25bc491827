"""The options of all commands that serve something on a port of this machine."""

from typing import Annotated

import typer

Host = Annotated[str, typer.Option(help="Address; 0.0.0.0 lets other machines in.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")]
HERE = "127.0.0.1"
