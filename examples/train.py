"""Trains an adapter on a folder of captioned pictures; here a few steps on a few drawn ones."""

from pathlib import Path

import numpy as np
from PIL import Image

from llmdiff.scenes.captions import plain_caption
from llmdiff.scenes.drawing import draw
from llmdiff.scenes.scene import sample_scene
from llmdiff.training import train

RECIPE = """
base: embedded
llm: embedded
mode: augment
data: {kind: folder, path: pictures}
loop: {steps: 4, batch_size: 4, sample_every: 0}
folder: runs/few
"""


def main(folder: Path = Path()) -> None:
    """Write pictures, captions and a recipe into a folder, and train."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for n in range(12):
        scene = sample_scene(rng, 1)
        Image.fromarray(draw(scene)).save(pictures / f"{n}.png")
        (pictures / f"{n}.txt").write_text(plain_caption(scene, rng).text)
    recipe = folder / "few.yaml"
    recipe.write_text(RECIPE)
    done = train(str(recipe), [f"data.path={pictures}", f"folder={folder / 'runs' / 'few'}"])
    print(done["steps"], "steps")


if __name__ == "__main__":
    main()
