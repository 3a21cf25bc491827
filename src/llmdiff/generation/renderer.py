"""A base model with its adapter, loaded once and ready to draw any number of pictures."""

import math
import re
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import torch
from PIL import Image

from llmdiff.base.folder import check_text_encoders
from llmdiff.base.layers import find_denoiser
from llmdiff.base.loading import Pipeline, default_device, load_pipeline
from llmdiff.base.scheduler_settings import failure_in
from llmdiff.errors import LLMDiffError, is_out_of_memory
from llmdiff.generation.averaging import averaged
from llmdiff.generation.call import call_arguments, default_size, warn_if_cut
from llmdiff.generation.provenance import base_hash, library_versions, scheduler_config
from llmdiff.generation.record import Models, PictureSettings, Provenance, Record
from llmdiff.generation.watch import LatentsProgress, StepProgress, Watch
from llmdiff.hashing import values_hash
from llmdiff.language import emphasis
from llmdiff.models import EMBEDDED, shipped_adapter
from llmdiff.sources import LOADING_FAULTS, reason

if TYPE_CHECKING:
    from llmdiff.adapter import LLMDiffAdapter

_SHOWN = 60  # characters of a prompt in an error
_HOSTS = ("diffusers", "transformers", "torch")
_SAME_LLM = ("fingerprint", "quantization", "dtype")
_BASE_ALONE = {"adapter": None, "llm": None, "quantization": None}
# In what hosts say of a size that does not fit.
_ABOUT_SIZES = re.compile(r"\b(sizes?|shapes?|dimensions?|divisible|division by zero)\b")


class Renderer:
    """Draws pictures, one pipeline call each.

    One call per picture makes a picture depend on its own settings alone: the kernels that a library picks depend on
    the batch size, and with them the last bits of the result. On one core that costs the embedded base model about a
    fifth of its speed (14 ms per row in calls of 2 rows, 11 ms in calls of 8) [choice].

    Example:
        >>> renderer = Renderer.load(Models(base="my-sd", adapter="my-adapter"), device="cpu")
        >>> width, height = renderer.default_size()
        >>> image = renderer.draw(
        ...     PictureSettings(prompt="a cup", steps=2, guidance=5, scale=1, seed=7, width=width, height=height)
        ... )
    """

    def __init__(self, pipe: Pipeline, adapter: "LLMDiffAdapter | None" = None, models: Models | None = None) -> None:
        """Take loaded models; `adapter` is attached to `pipe` here and stays so."""
        self.pipe = pipe
        self.adapter = adapter
        self.models = models or Models(base=EMBEDDED)
        self._base_hash = base_hash(pipe)
        self._adapter_hash = values_hash(adapter.state_dict().items()) if adapter else None
        self._attached = False
        self.attach()

    @classmethod
    def load(cls, models: Models, *, device: str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Load the named models; raises LLMDiffError if one cannot be loaded or they do not fit each other.

        Args:
            models: names of base model, adapter and LLM.
            device: None takes the fastest one here.
            dtype: None takes float16 on CUDA and float32 elsewhere.
        """
        device = device or default_device()
        dtype = dtype or (torch.float16 if device.startswith("cuda") else torch.float32)
        pipe = load_pipeline(
            models.base,
            config=models.base_config,
            dtype=dtype,
            device=device,
            needs_text_encoders=models.adapter is None,
        )
        adapter = _load_adapter(models, device)
        if adapter is not None and adapter.config.mode == "augment":
            check_text_encoders(pipe, models.base)
        if adapter is not None:
            adapter.llm.settled = True  # it was loaded here, and is nobody else's
        return cls(pipe, adapter, models)

    def sibling(self, adapter: str) -> "Renderer":
        """A renderer of the same pipeline with another adapter, attached in this one's place.

        One of both draws at a time: `detach` the one before `attach` of the other. An LLM of both is loaded once.

        Args:
            adapter: a folder, a Hub id, or "embedded".

        Raises:
            LLMDiffError: it cannot be loaded, or does not fit; then this renderer is attached again.
        """
        self.detach()
        try:
            models = self.models.model_copy(update={"adapter": adapter, "quantization": None})
            loaded = _load_adapter(models, str(self.pipe.device), self.adapter)
            return type(self)(self.pipe, loaded, models)
        except LLMDiffError:
            self.attach()
            raise

    def attach(self) -> None:
        """Has the adapter draw; does nothing without one, and if it does already."""
        if self.adapter is not None and not self._attached:
            self.adapter.attach(self.pipe)
            self._attached = True

    def detach(self) -> None:
        """Leaves the pipeline to others, without the adapter, until `attach`."""
        if self.adapter is not None and self._attached:
            self.adapter.detach()
            self._attached = False

    @contextmanager
    def base_alone(self) -> Iterator[None]:
        """Within this context the base model draws without the adapter.

        Raises:
            LLMDiffError: The base model lacks its own text encoder.
        """
        if self.adapter is None or not self._attached:
            yield
            return
        check_text_encoders(self.pipe, self.models.base)
        self.detach()
        try:
            yield
        finally:
            self.attach()

    def draw(self, settings: PictureSettings, on_step: StepProgress | None = None) -> Image.Image:
        """Draw one picture; warns if the base model's safety checker blacks it out or its text encoder cuts it.

        Raises:
            LLMDiffError: there is not enough memory, the base model cannot draw, or not at that size, or what it draws
                is not finite.
        """
        return self.draw_batch([settings], on_step)[0]

    def draw_batch(
        self,
        pictures: Sequence[PictureSettings],
        on_step: StepProgress | None = None,
        on_latents: LatentsProgress | None = None,
    ) -> list[Image.Image]:
        """Draw several pictures of one kind (`llmdiff.generation.call.kind`) in one call of the pipeline.

        Their last bits may differ from those of pictures that are drawn alone.

        Args:
            pictures: their settings.
            on_step: called after every step.
            on_latents: called after every step with the latents, of which `llmdiff.generation.preview` makes pictures.

        Raises:
            LLMDiffError: as for `draw`.
        """
        settings = pictures[0]
        if self.adapter is not None and self._attached:
            _apply(self.adapter, settings)
        else:
            for text in (text for one in pictures for text in one.texts):
                warn_if_cut(self.pipe, text)
        watch = Watch(on_step, _of_pictures(on_latents, len(settings.texts)))
        try:
            output = self._call(pictures, watch)
        except LOADING_FAULTS as error:
            if (sentence := self._explain(settings, error)) is None:
                raise
            raise LLMDiffError(sentence) from error
        if any(getattr(output, "nsfw_content_detected", None) or ()):
            warnings.warn("The base model's own safety checker blacked out a picture.", stacklevel=2)
        drawn = output.images[:: len(settings.texts)]  # rows of one picture are the same
        for one, pixels in zip(pictures, drawn, strict=True):
            watch.check(f"The picture of {one.prompt[:_SHOWN]!r} (seed {one.seed})", pixels)
        images: list[Image.Image] = [self.pipe.numpy_to_pil(pixels)[0] for pixels in drawn]
        if images[0].size != (settings.width, settings.height):
            came, asked = _size(*images[0].size), _size(settings.width, settings.height)
            warnings.warn(
                f"The base model drew a picture of {came} where {asked} was asked for: it has rules of its own.",
                stacklevel=2,
            )
        return images

    def read(self, pictures: Iterable[PictureSettings]) -> None:
        """Have the LLM read the prompts of pictures, so that it need not take turns with the image model."""
        if self.adapter is None:
            return
        groups: dict[tuple[float, bool], list[str]] = {}
        for one in pictures:
            groups.setdefault((one.scale, one.prompt_weights), []).extend([*one.texts, one.negative])
        for (scale, prompt_weights), texts in groups.items():
            self.adapter.scale, self.adapter.prompt_weights = scale, prompt_weights
            if not self.adapter.idle:
                self.adapter.encode(texts)

    def read_ahead(self, settings: Iterable[PictureSettings]) -> None:
        """Have the LLM read the prompts of all pictures, and then give back the memory that it takes."""
        self.read(settings)
        if self.adapter is not None:
            self.adapter.llm.offload()

    def record(self, settings: PictureSettings) -> Record:
        """All that `draw(settings)` depends on, in the present state (adapter attached or not)."""
        models = self.models if self._attached else self.models.model_copy(update=_BASE_ALONE)
        return Record(picture=settings, models=models, provenance=self.provenance())

    def provenance(self) -> Provenance:
        """Hashes, scheduler, versions, device and dtype of what would draw now."""
        adapter = self.adapter if self._attached else None
        return Provenance(
            base_hash=self._base_hash,
            adapter_hash=self._adapter_hash if adapter else None,
            llm=adapter.llm.identity() if adapter else None,
            scheduler=scheduler_config(self.pipe),
            versions=library_versions(),
            device=str(self.pipe.device).split(":")[0],
            dtype=str(self.pipe.dtype).removeprefix("torch."),
            threads=torch.get_num_threads(),
        )

    @property
    def adapter_hash(self) -> str | None:
        """The hash of the adapter's weights, as records have it; None without one."""
        return self._adapter_hash

    def default_size(self) -> tuple[int, int]:
        """Width and height in pixels that the base model was trained for."""
        return default_size(self.pipe)

    def _call(self, pictures: Sequence[PictureSettings], watch: Watch) -> Any:
        if not self._attached:  # the base model knows no weights of words
            pictures = [_without_weights(one) if one.prompt_weights else one for one in pictures]
        with watch.decoding(self.pipe), averaged(find_denoiser(self.pipe), len(pictures[0].texts)):
            return self.pipe(**call_arguments(self.pipe, pictures, watch))

    def _explain(self, settings: PictureSettings, error: Exception) -> str | None:
        """What the user can do about an error of the pipeline's call; None if it is none of a host."""
        size, usual = _size(settings.width, settings.height), _size(*self.default_size())
        if is_out_of_memory(error):
            return f"There is not enough memory for a picture of {size}: ask for a smaller --size."
        if settings.steps >= (most := self.pipe.scheduler.config.get("num_train_timesteps", math.inf)):
            return f"The base model cannot draw in {settings.steps} steps ({reason(error)}): ask for less than {most}."
        if (why := failure_in(settings.steps, self.pipe.scheduler)) is not None:
            return f"The base model cannot draw in {settings.steps} steps ({why}): ask for another number of --steps."
        if size == usual or not _ABOUT_SIZES.search(str(error)):
            if not _is_of_a_host(error):
                return None
            return (
                f"The base model {self.models.base!r} cannot draw ({reason(error)}): its parts do not fit each other, "
                "or one is damaged; fetch it again."
            )
        return (
            f"The base model cannot draw a picture of {size} ({reason(error)}): ask for {usual}, which it was trained "
            "for, or for another --size, of multiples of 64 for instance."
        )


def _is_of_a_host(error: BaseException) -> bool:
    """Whether an error was raised in a library that draws, and not in code of ours or of who calls it."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and frames[-1][0].f_globals.get("__name__", "").partition(".")[0] in _HOSTS


def _size(width: int, height: int) -> str:
    return f"{width}x{height}"


def _of_pictures(tell: LatentsProgress | None, texts: int) -> LatentsProgress | None:
    """Is told of each picture once, of which a call has a row for each of its texts."""
    if tell is None or texts == 1:
        return tell
    return lambda share, latents: tell(share, latents[::texts])


def _without_weights(settings: PictureSettings) -> PictureSettings:
    return settings.model_copy(
        update={name: emphasis.plain(getattr(settings, name)) for name in ("prompt", "negative")}
    )


def _apply(adapter: "LLMDiffAdapter", settings: PictureSettings) -> None:
    """Set on the adapter what a picture's settings say of it."""
    adapter.scale = settings.scale
    adapter.prompt_weights = settings.prompt_weights


def stored_hash(adapter: str) -> str:
    """The hash of an adapter's weights as records have it, read from its file alone.

    Args:
        adapter: a folder, a Hub id, or "embedded".

    Raises:
        LLMDiffError: it cannot be found or read.
    """
    from llmdiff.adapter import storage

    return values_hash(storage.read_weights(storage.locate(_adapter_name(adapter), None)).items())


def _adapter_name(adapter: str) -> str:
    return str(shipped_adapter()) if adapter == EMBEDDED else adapter


def _load_adapter(models: Models, device: str, beside: "LLMDiffAdapter | None" = None) -> "LLMDiffAdapter | None":
    """The adapter of some models; with the LLM of another one beside it, if it was trained with the same."""
    if models.adapter is None:
        return None
    from llmdiff.adapter import LLMDiffAdapter, storage

    name = _adapter_name(models.adapter)
    llm: Any = models.llm
    if beside is not None:
        recorded = storage.read_config(storage.locate(name, None)).llm
        same = all(recorded.get(key) == value for key, value in beside.llm.identity().items() if key in _SAME_LLM)
        llm = beside.llm if same else llm
    return LLMDiffAdapter.from_pretrained(name, llm=llm, quantization=models.quantization, device=device)
