"""A base model with its adapter, loaded once and ready to draw any number of pictures."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import torch
from PIL import Image

from llmdiff.errors import LLMDiffError
from llmdiff.generation.pipeline import Pipeline, default_device, load_pipeline
from llmdiff.generation.provenance import base_hash, library_versions, scheduler_config
from llmdiff.generation.record import Models, PictureSettings, Provenance, Record
from llmdiff.hashing import values_hash
from llmdiff.models import EMBEDDED, shipped_adapter

if TYPE_CHECKING:
    from llmdiff.adapter import LLMDiffAdapter

StepProgress = Callable[[float], None]  # called with the finished share of a picture, 0 … 1
_BASE_ALONE = {"adapter": None, "llm": None, "quantization": None}
_ENDLESS = 1_000_000  # tokenizers without a limit state a huge one


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
        if adapter is not None:
            adapter.attach(pipe)
            self._attached = True

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
        pipe = load_pipeline(models.base, dtype=dtype, device=device)
        return cls(pipe, _load_adapter(models, device), models)

    @contextmanager
    def base_alone(self) -> Iterator[None]:
        """Within this context the base model draws without the adapter."""
        if self.adapter is None or not self._attached:
            yield
            return
        self.adapter.detach()
        self._attached = False
        try:
            yield
        finally:
            self.adapter.attach(self.pipe)
            self._attached = True

    def draw(self, settings: PictureSettings, on_step: StepProgress | None = None) -> Image.Image:
        """Draw one picture; warns if the base model's safety checker blacks it out or its text encoder cuts it."""
        if self.adapter is not None and self._attached:
            _apply(self.adapter, settings)
        else:
            self._warn_if_cut(settings.prompt)
        try:
            output = self._call(settings, on_step)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            size = f"{settings.width}x{settings.height}"
            raise LLMDiffError(
                f"There is not enough memory for a picture of {size}: ask for a smaller --size."
            ) from error
        if any(getattr(output, "nsfw_content_detected", None) or ()):
            warnings.warn("The base model's own safety checker blacked out a picture.", stacklevel=2)
        return output.images[0]

    def read_ahead(self, settings: Iterable[PictureSettings]) -> None:
        """Have the LLM read the prompts of all pictures, and then give back the memory that it takes."""
        if self.adapter is not None:
            for one in settings:
                _apply(self.adapter, one)
                if not self.adapter.idle:
                    self.adapter.encode([one.prompt, one.negative])
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

    def default_size(self) -> tuple[int, int]:
        """Width and height in pixels that the base model was trained for."""
        denoiser = getattr(self.pipe, "unet", None) or self.pipe.transformer
        sample = denoiser.config.sample_size
        height, width = (sample, sample) if isinstance(sample, int) else sample
        return width * self.pipe.vae_scale_factor, height * self.pipe.vae_scale_factor

    def _call(self, settings: PictureSettings, on_step: StepProgress | None) -> Any:
        return self.pipe(
            prompt=settings.prompt,
            negative_prompt=settings.negative or None,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            width=settings.width,
            height=settings.height,
            generator=torch.Generator("cpu").manual_seed(settings.seed),
            callback_on_step_end=self._callback(on_step),
        )

    def _callback(self, on_step: StepProgress | None) -> Callable[..., dict[str, Any]]:
        def report(pipe: Pipeline, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if on_step is not None:
                on_step(min(1.0, (step + 1) / pipe.num_timesteps))
            return tensors

        return report

    def _warn_if_cut(self, prompt: str) -> None:
        """The base model's own text encoder cuts long prompts without a word: say it."""
        tokenizer = getattr(self.pipe, "tokenizer", None)
        limit = getattr(tokenizer, "model_max_length", _ENDLESS)
        if tokenizer is None or limit >= _ENDLESS:
            return
        ids = tokenizer(prompt, truncation=False, verbose=False).input_ids
        if len(ids) > limit:
            lost = tokenizer.decode(ids[limit - 1 : limit + 11], skip_special_tokens=True)
            warnings.warn(
                f"The base model reads {limit} tokens of a prompt and this one has {len(ids)}: "
                f"it was cut from {' '.join(lost.split())!r} on.",
                stacklevel=3,
            )


def _apply(adapter: "LLMDiffAdapter", settings: PictureSettings) -> None:
    """Set on the adapter what a picture's settings say of it."""
    adapter.scale = settings.scale
    adapter.prompt_weights = settings.prompt_weights


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _load_adapter(models: Models, device: str) -> "LLMDiffAdapter | None":
    if models.adapter is None:
        return None
    from llmdiff.adapter import LLMDiffAdapter

    name = str(shipped_adapter()) if models.adapter == EMBEDDED else models.adapter
    return LLMDiffAdapter.from_pretrained(name, llm=models.llm, quantization=models.quantization, device=device)
