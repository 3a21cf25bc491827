"""What needs no model must not wait for the libraries that run models."""

import subprocess
import sys

import pytest

RUN = """
import sys
from llmdiff.cli import main
status = main(sys.argv[1:])
heavy = {"torch", "transformers", "diffusers"} & sys.modules.keys()
print(heavy or "", file=sys.stderr)
sys.exit(99 if heavy else status)
"""


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["models", "list"], 0),
        (["models", "where", "llm"], 0),
        (["--help"], 0),
        (["generate", ""], 1),
        (["generate", "a", "--size", "9"], 1),
    ],
)
def test_it_is_done_without_importing_torch(arguments: list[str], status: int) -> None:
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
