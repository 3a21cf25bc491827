"""Has a model behind an API rewrite the prompt: `python examples/proxy.py http://localhost:8000/v1 qwen3-32b`."""

import sys
from pathlib import Path

from llmdiff.generation import GenerationRequest, generate, write_png
from llmdiff.proxy import ProxyConfig


def main(url: str, model: str, out: Path = Path("out")) -> None:
    """Write a picture of each of two rewritings; of the prompt as it is, where the endpoint has no answer."""
    proxy = ProxyConfig(url=url, model=model, rewritings=2)
    request = GenerationRequest(prompts=["what a striker kicks, in the colour of a lemon"], num=2, seed=7, proxy=proxy)
    for n, picture in enumerate(generate(request)):
        print(picture.metadata.picture.texts)
        write_png(out / f"proxy-{n}.png", picture.image, picture.document())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} URL MODEL")
    main(sys.argv[1], sys.argv[2])
