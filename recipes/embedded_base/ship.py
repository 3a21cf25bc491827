"""Puts trained weights into the package, in half precision: `python -m embedded_base.ship` in recipes."""

import json
import shutil
from pathlib import Path

import torch
import typer
from safetensors.torch import load_file, save_file

import llmdiff.embedded
from llmdiff import folder_checksums, tensor_files

_PACKAGE = Path(llmdiff.embedded.__file__).parent


def ship(source: Path, name: str) -> Path:
    """Copies a trained folder to the package's `name`, its safetensors in float16; its card stays as it is there.

    Args:
        source: A folder of a pipeline, an adapter or a SigLIP.
        name: "base", "adapter" or "siglip".

    Returns:
        The folder in the package.
    """
    target = _PACKAGE / name
    copy_halved(source, target, with_checksum=name == "adapter")
    if name != "adapter":
        folder_checksums.sign(target)
    return target


def copy_halved(source: Path, target: Path, with_checksum: bool = False) -> None:
    """Copies a folder, its safetensors in float16, `with_checksum` in each or as diffusers writes them.

    The configurations lose what they say of the machine; a card that is there stays.
    """
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            halves = {k: v.half() if v.dtype == torch.float32 else v for k, v in load_file(path).items()}
            metadata = tensor_files.signed(halves, tensor_files.CHECKSUM) if with_checksum else {"format": "pt"}
            save_file(halves, place, metadata=metadata)
        elif path.suffix == ".json":
            place.write_text(_without_places(path.read_text()))
        elif path.name != "README.md" or not place.exists():
            shutil.copyfile(path, place)


def _without_places(text: str) -> str:
    """A configuration without the folder that it was loaded from on the machine that trained it."""
    config = json.loads(text)
    if "_name_or_path" not in config:
        return text
    del config["_name_or_path"]
    return json.dumps(config, indent=2) + "\n"


def main(base: Path | None = None, adapter: Path | None = None, siglip: Path | None = None) -> None:
    """Ships a base model's folder, an adapter's, a SigLIP's, or several."""
    for source, name in ((base, "base"), (adapter, "adapter"), (siglip, "siglip")):
        if source is not None:
            typer.echo(ship(source, name))


if __name__ == "__main__":
    typer.run(main)
