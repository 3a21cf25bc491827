"""The `llmdiff` command line."""

from llmdiff.cli.app import app, main

__all__ = ["app", "main"]
