"""Makes the oracle's answers: `python recipes/proxy_study/make_oracle.py OUT`.

They are no model's: each is what the prompt's facts are in the plain words of the embedded base, so that an endpoint
that gives them is the most that any proxy could be worth.
"""

import json
from pathlib import Path

import typer

from llmdiff.evaluation import implied_prompts, scene_prompts
from llmdiff.evaluation.domains import DOMAINS


def main(out: Path) -> None:
    """Write them as one JSON object, by prompt."""
    prompts = [*implied_prompts(), *scene_prompts()]
    answers = {one.prompt: DOMAINS[one.version].plainly(one.facts) for one in prompts}
    out.write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
