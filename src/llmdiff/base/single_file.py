"""A base model from a single-file checkpoint: the weights from the file, everything else from a folder of configs."""

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from diffusers import SchedulerMixin
from diffusers.loaders.single_file_utils import SingleFileComponentError, fetch_diffusers_config
from huggingface_hub import snapshot_download

from llmdiff.base.checkpoint_kind import check_checkpoint, clip_without_embeddings, has_text_encoders
from llmdiff.base.folder import missing_parts, named_parts, part_class, pipeline_class
from llmdiff.base.locate import INDEX
from llmdiff.base.scheduler_settings import check_scheduler
from llmdiff.declared_sizes import Held, check_config, held_to
from llmdiff.errors import LLMDiffError
from llmdiff.headers import Header
from llmdiff.sources import LOADING_FAULTS, fetch_reason, is_hub_id
from llmdiff.structured_text import read_json

_CONFIGS = ("*.json", "*.txt", "*.model")
_NO_CONFIGS = ("*.safetensors.index*.json", "*.bin.index*.json")
_SD2 = "stabilityai/stable-diffusion-2-1"


def load_single_file(file: Path, config: str | Path | None, dtype: torch.dtype) -> Any:
    """The pipeline of a checkpoint.

    Args:
        file: with the checkpoint, in safetensors.
        config: a folder in the diffusers layout or a Hub id, whose index, configs and tokenizers are used and no
            weights; None for those on the Hub of the model that the checkpoint looks like.
        dtype: of the weights.

    Raises:
        LLMDiffError: There are no configs to be had, or the checkpoint does not fit them.
    """
    header = check_checkpoint(file)
    configs = config_folder(file, config)
    index = read_json(configs / INDEX)
    kind = pipeline_class(configs, index)
    if not hasattr(kind, "from_single_file"):
        raise LLMDiffError(f"diffusers loads no {kind.__name__} from a single file: give its folder.")
    named = named_parts(configs, kind, index)
    named = {name: of for name, of in named.items() if name not in ("safety_checker", "image_encoder")}
    for part, of in named.items():
        if (description := configs / part / "config.json").is_file():
            check_config(f"The config {str(description)!r}", read_json(description))
        elif issubclass(found := part_class(configs / part, *of), SchedulerMixin):
            check_scheduler(configs / part, found)
    if (lacking := clip_without_embeddings(header)) is not None:
        raise LLMDiffError(
            f"The checkpoint {str(file)!r} lacks weights of its text encoder, embeddings of {lacking}: fetch it again."
        )
    if not has_text_encoders(header):
        named = {name: of for name, of in named.items() if not name.startswith("text_encoder")}
    with tempfile.TemporaryDirectory() as place:
        _copy_configs(configs, Path(place))
        options = missing_parts(kind, named) | {"config": place, "dtype": dtype, "local_files_only": True}
        try:
            with held_to(f"The config of {str(file)!r}", lambda: Held.by([header])):
                pipe = kind.from_single_file(str(file), **options)
        except (NotImplementedError, SingleFileComponentError) as error:  # the former: of weights still on meta
            raise LLMDiffError(
                f"The checkpoint {str(file)!r} lacks weights that a {kind.__name__} with these configs has: fetch it "
                "again, or give the configs of its own model."
            ) from error
    _set_prediction(pipe, header)
    return pipe


def config_folder(file: Path, config: str | Path | None) -> Path:
    """The folder of the configs that a checkpoint is loaded with, fetched if it is one of the Hub.

    Raises:
        LLMDiffError: There is none.
    """
    if config is not None and (folder := Path(config).expanduser()).is_dir():
        if not (folder / INDEX).is_file():
            raise LLMDiffError(f"The config folder {str(config)!r} holds no base model: there is no {INDEX} in it.")
        return folder
    if config is not None and not is_hub_id(str(config)):
        raise LLMDiffError(f"There is no config at {str(config)!r}: give an existing folder or a Hugging Face Hub id.")
    source = str(config) if config is not None else likely_source(check_checkpoint(file))
    try:
        folder = Path(snapshot_download(source, allow_patterns=list(_CONFIGS), ignore_patterns=list(_NO_CONFIGS)))
    except LOADING_FAULTS as error:
        raise LLMDiffError(
            f"The checkpoint {str(file)!r} needs the configs of {source}, which could not be fetched from the Hugging "
            f"Face Hub ({fetch_reason(error)}): give a diffusers folder of such a model as its config (--base-config)."
        ) from error
    if config is None and source == _SD2:
        warnings.warn(
            f"The checkpoint {file.name!r} is taken for Stable Diffusion 2.1 with v-prediction: if it is another 2.x, "
            "name its configs with --base-config.",
            stacklevel=5,
        )
    return folder


def likely_source(header: Header) -> str:
    """The Hub id of the model that a checkpoint looks like to diffusers, by names and shapes."""
    shapes = {name: torch.empty(shape, device="meta") for name, shape in header.shapes.items()}
    return str(fetch_diffusers_config(shapes)["pretrained_model_name_or_path"])


def _copy_configs(folder: Path, to: Path) -> None:
    """Copies configs and tokenizers without weights, so that none can be taken from there."""
    for pattern in _CONFIGS:
        for file in (*folder.glob(pattern), *folder.glob(f"*/{pattern}")):
            if not any(file.match(other) for other in _NO_CONFIGS):
                target = to / file.relative_to(folder)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, target)


def _set_prediction(pipe: Any, header: Header) -> None:
    """Sets the scheduler to what the checkpoint says of its training, by the marks that trainers leave in it."""
    changes: dict[str, Any] = {}
    said = header.metadata.get("modelspec.prediction_type")
    if "v_pred" in header.shapes or said in ("v", "v_prediction"):
        changes["prediction_type"] = "v_prediction"
    elif said in ("epsilon", "eps"):
        changes["prediction_type"] = "epsilon"
    if "ztsnr" in header.shapes:
        changes["rescale_betas_zero_snr"] = True
    if any(pipe.scheduler.config.get(name) != value for name, value in changes.items()):
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, **changes)
