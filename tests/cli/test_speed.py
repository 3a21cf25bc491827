"""What needs no model must not wait for the libraries that run models."""

import json
import subprocess
import sys

RUN = """
import json, sys
from llmdiff.cli import main
for arguments in json.loads(sys.argv[1]):
    status = main(arguments)
    heavy = {"torch", "transformers", "diffusers"} & sys.modules.keys()
    print("done", json.dumps([status, sorted(heavy)]), file=sys.stderr)
"""
COMMANDS: list[tuple[list[str], int]] = [
    (["models", "list"], 0),
    (["models", "where", "llm"], 0),
    (["--help"], 0),
    (["generate", ""], 1),
    (["generate", "a", "--size", "9"], 1),
]


def test_it_is_done_without_importing_torch() -> None:
    """One after the other in one process: what the first has imported, all have."""
    commands = json.dumps([arguments for arguments, _ in COMMANDS])
    done = subprocess.run([sys.executable, "-c", RUN, commands], check=True, capture_output=True, text=True)
    found = [json.loads(line.removeprefix("done ")) for line in done.stderr.splitlines() if line.startswith("done ")]
    assert found == [[status, []] for _, status in COMMANDS]
