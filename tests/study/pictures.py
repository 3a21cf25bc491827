"""Small studies made of pictures that are drawn here."""

from pathlib import Path

from PIL import Image

from llmdiff.study import Study, StudyConfig, new_study

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200), "green": (30, 160, 30)}


def picture_folder(folder: Path, colour: str, count: int, size: tuple[int, int] = (32, 32)) -> Path:
    """Pictures of one colour that differ a little, each with its prompt in a text beside it."""
    folder.mkdir(parents=True)
    for number in range(count):
        image = Image.new("RGB", size, COLOURS[colour])
        image.paste((number % 256, 255, 255), (0, 0, size[0] // 2, size[1] // 4))
        image.save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text(f"picture number {number} <b>&amp;</script>")
    return folder


def make_study(folder: Path, *colours: str, count: int = 12, **settings: object) -> Study:
    """A study whose systems are named by their colours."""
    systems = {colour: {"pictures": str(picture_folder(folder / colour, colour, count))} for colour in colours}
    return new_study(StudyConfig.make(**{"systems": systems, "seed": 0} | settings), folder / "study")
