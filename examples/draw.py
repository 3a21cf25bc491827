"""Draws a picture with the embedded models, keeps it as a PNG, and draws it again from that file alone."""

from pathlib import Path

from llmdiff.generation import GenerationRequest, generate, regenerate, write_png


def main(out: Path = Path("out")) -> None:
    """Write out/boat.png and say whether the second picture is the same."""
    request = GenerationRequest(prompts=["a scarlet boat at night"], seed=7)
    (picture,) = generate(request)
    write_png(out / "boat.png", picture.image, picture.document())
    print("identical:", regenerate(out / "boat.png").identical)


if __name__ == "__main__":
    main()
