"""Makes an oracle's answers: `python recipes/proxy_study/make_oracle.py OUT`, or with `--wordings 3`.

They are no model's. Plainly, each is what the prompt's facts are in the plain words of the embedded base, so that an
endpoint that gives them is the most that any proxy could be worth. With wordings, each prompt has several answers that
say the same in natural English of training captions, drawn by lot: what a very good proxy would say if asked again.
"""

import json
from pathlib import Path

import numpy as np
import typer

from llmdiff.evaluation import implied_prompts, scene_prompts
from llmdiff.evaluation.domains import DOMAINS
from llmdiff.evaluation.prompts import ScenePrompt
from llmdiff.scenes.description import Description
from llmdiff.scenes.phrasing import natural_text


def main(out: Path, wordings: int = 0) -> None:
    """Write them as one JSON object, lists of answers by prompt."""
    rng = np.random.default_rng(17)
    prompts = [*implied_prompts(), *scene_prompts()]
    answers = {one.prompt: _answers(one, wordings, rng) for one in prompts}
    out.write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")


def _answers(prompt: ScenePrompt, wordings: int, rng: np.random.Generator) -> list[str]:
    if not wordings:
        return [DOMAINS[prompt.version].plainly(prompt.facts)]
    return [natural_text(Description.of(prompt.facts), rng) for _ in range(wordings)]


if __name__ == "__main__":
    typer.run(main)
