"""Where a base model is: a folder in the diffusers layout, a single-file checkpoint, or a Hub id.

Nothing here loads torch, so that a wrong path is answered at once.
"""

from pathlib import Path

from llmdiff.base.checkpoint_kind import check_checkpoint, is_checkpoint
from llmdiff.errors import LLMDiffError
from llmdiff.models import SHIPPED_BASES, shipped_base
from llmdiff.sources import is_hub_id
from llmdiff.structured_text import read_json

INDEX = "model_index.json"
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


def locate_base(name: str | Path) -> Path | None:
    """The folder or the checkpoint that the name of a base model means, or None if it can only be a Hub id.

    A name of `SHIPPED_BASES` means what is shipped. A folder is one with a ``model_index.json``; one that holds nothing
    but a single-file checkpoint means that file.

    Raises:
        LLMDiffError: There is nothing of that name, or it is something else than a base model; the sentence says what.
    """
    if str(name) in SHIPPED_BASES:
        return shipped_base(str(name))
    path = Path(name).expanduser()
    if path.is_file():
        check_file(path)
        return path
    if path.is_dir():
        return path if (path / INDEX).is_file() else _checkpoint_in(path)
    if not is_hub_id(str(name)):
        raise LLMDiffError(
            f"There is no base model at {str(name)!r}: give an existing folder, a .safetensors file or a Hugging Face "
            "Hub id."
        )
    return None


def check_file(file: Path) -> None:
    """Raises LLMDiffError, saying what the file is, unless it is a single-file checkpoint in safetensors."""
    if file.suffix in PICKLES:
        raise LLMDiffError(
            f"The base model {str(file)!r} is a pickle, which can run code and is never loaded: give a .safetensors "
            "version of it."
        )
    if file.name == INDEX:
        raise LLMDiffError(f"{str(file)!r} is the index of a base model: give its folder, {str(file.parent)!r}.")
    if file.suffix != ".safetensors":
        raise LLMDiffError(
            f"The base model {str(file)!r} is no .safetensors file: give one, or a folder with {INDEX} in it."
        )
    check_checkpoint(file)


def _checkpoint_in(folder: Path) -> Path:
    """The one checkpoint of a folder that has no index."""
    _refuse_other_models(folder)
    files = sorted(file for file in folder.glob("*.safetensors") if file.is_file())
    if len(files) == 1:
        check_file(files[0])
        return files[0]
    checkpoints = [file for file in files if is_checkpoint(file)]
    if len(checkpoints) == 1:
        return checkpoints[0]
    if checkpoints:
        names = ", ".join(file.name for file in checkpoints)
        raise LLMDiffError(f"The folder {str(folder)!r} holds several checkpoints: give one of {names} with its path.")
    if not files and (pickles := [file.name for file in sorted(folder.iterdir()) if file.suffix in PICKLES]):
        raise LLMDiffError(
            f"The folder {str(folder)!r} holds pickles alone ({pickles[0]}), which can run code and are never loaded: "
            "give a .safetensors version of the model."
        )
    raise LLMDiffError(
        f"The folder {str(folder)!r} holds no base model: there is no {INDEX} in it, and no single-file checkpoint."
    )


def _refuse_other_models(folder: Path) -> None:
    """Raises LLMDiffError if a folder without an index is a model of another kind."""

    def refuse(what: str, instead: str) -> None:
        raise LLMDiffError(f"The folder {str(folder)!r} holds no base model but {what}: {instead}.")

    if (folder / "modular_model_index.json").is_file():
        refuse("a modular pipeline", f"give a folder with {INDEX} in it")
    if (folder / "adapter_config.json").is_file() or (folder / "pytorch_lora_weights.safetensors").is_file():
        refuse("a LoRA", "give the base model that it was trained for")
    if (folder / "adapter.safetensors").is_file():
        refuse("an LLMDiff adapter", "give it with --adapter, and with --base the model that it was made for")
    if (folder / "config.json").is_file():
        config = read_json(folder / "config.json")
        if isinstance(part := config.get("_class_name"), str):
            refuse(f"one part of one ({part})", f"give the folder of the whole pipeline, which has {INDEX} in it")
        if "model_type" in config or "architectures" in config:
            kind = config.get("model_type") or config.get("architectures")
            refuse(f"a model of transformers ({kind})", "give a language model with --llm, and a diffusers folder here")
    inner = sorted(index.parent for depth in ("*", "*/*") for index in folder.glob(f"{depth}/{INDEX}"))
    if inner:
        refuse("folders with one", f"give {str(inner[0])!r}")
