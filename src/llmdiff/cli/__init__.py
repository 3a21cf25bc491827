"""The `llmdiff` command line."""

from llmdiff.cli.entry import main

__all__ = ["main"]
