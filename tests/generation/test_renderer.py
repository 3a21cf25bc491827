"""A renderer: state between pictures, and faults of a running pipeline."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from llmdiff.errors import LLMDiffError
from llmdiff.generation import Models, PictureSettings, Renderer, load_pipeline
from llmdiff.language import model
from tiny_base import Places

LONG = "the blue house on a red ball and " * 6


def renderer(places: Places, adapter: bool = True) -> Renderer:
    models = Models(base=str(places.base), adapter=str(places.adapter) if adapter else None)
    return Renderer.load(models, device="cpu")


def settings(prompt: str, **options: object) -> PictureSettings:
    common = {"steps": 2, "guidance": 5.0, "scale": 1.0, "seed": 3, "width": 16, "height": 16}
    return PictureSettings.model_validate(common | {"prompt": prompt} | options)


def test_a_prompts_encoding_is_the_same_whatever_it_is_drawn_with(places: Places) -> None:
    """To the last bit, which a batch of texts of different lengths would change."""
    encodings = []
    for history in ([], [settings(LONG, negative="a box")], [settings("a box", negative=LONG)]):
        fresh = renderer(places)
        for earlier in history:
            fresh.draw(earlier)
        fresh.draw(settings("a box", negative=LONG))
        assert fresh.adapter is not None
        encodings.append([fresh.adapter.encode([text]).embeds for text in ("a box", LONG)])
        alone = renderer(places).adapter
        assert alone is not None
        assert all(map(torch.equal, encodings[-1], [alone.encode([text]).embeds for text in ("a box", LONG)]))


def test_scale_0_and_base_alone_leave_no_trace(places: Places) -> None:
    one = renderer(places)
    adapted = one.draw(settings("a box"))
    with one.base_alone():
        alone = one.draw(settings("a box"))
        record = one.record(settings("a box"))
    assert (record.models.adapter, record.provenance.adapter_hash, record.provenance.llm) == (None, None, None)
    assert one.draw(settings("a box", scale=0.0)).tobytes() == alone.tobytes() != adapted.tobytes()
    assert one.draw(settings("a box")).tobytes() == adapted.tobytes()
    assert one.record(settings("a box")).models.adapter == str(places.adapter)


def test_the_llm_of_its_own_is_looked_at_once(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    one = renderer(places)
    looks: list[object] = []
    stock = model.weights_hashes
    monkeypatch.setattr(model, "weights_hashes", lambda part: looks.append(part) or stock(part))
    for prompt in ("a box", "a cat"):
        one.draw(settings(prompt, negative="red"))
    assert len(looks) <= 1


def test_a_base_alone_has_no_adapter_to_take_off(places: Places) -> None:
    one = renderer(places, adapter=False)
    before = one.draw(settings("a box")).tobytes()
    with one.base_alone():
        assert one.draw(settings("a box")).tobytes() == before


def test_the_base_hash_is_of_the_base_alone_and_finds_any_changed_tensor(places: Places) -> None:
    record = renderer(places).provenance()
    assert record.base_hash == renderer(places, adapter=False).provenance().base_hash
    pipe = load_pipeline(places.base)
    for module in (pipe.unet, pipe.vae, pipe.text_encoder):
        tensor = list(module.parameters())[-1]
        with torch.no_grad():
            tensor.view(-1)[0] += 1
        assert Renderer(pipe).provenance().base_hash != record.base_hash
        with torch.no_grad():
            tensor.view(-1)[0] -= 1


def test_a_black_picture_of_the_safety_checker_is_explained(places: Places) -> None:
    one = renderer(places, adapter=False)
    black = np.zeros((16, 16, 3))
    one._call = lambda *_: SimpleNamespace(images=[black], nsfw_content_detected=[True])  # type: ignore[method-assign]
    with pytest.warns(UserWarning, match="safety checker"):
        assert one.draw(settings("a")).getextrema() == ((0, 0),) * 3


@pytest.mark.fault("not finite")
@pytest.mark.parametrize(
    ("part", "named"), [("unet.conv_out", "latents"), ("vae.decoder.conv_out", "VAE"), ("adapter", "latents")]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_picture_that_is_not_finite_is_an_error_and_not_black(
    places: Places, part: str, named: str, value: float
) -> None:
    one = renderer(places)
    adapter = one.adapter
    assert adapter is not None
    broken = next(iter(adapter.named_branches().values())) if part == "adapter" else one.pipe
    for name in part.split(".") if part != "adapter" else []:
        broken = getattr(broken, name)
    with torch.no_grad():
        list(broken.parameters())[-1].view(-1)[0] = value
    with pytest.raises(LLMDiffError, match=f"not finite.*{named}"):
        one.draw(settings("a"))


def test_too_large_a_picture_is_a_sentence(places: Places) -> None:
    one = renderer(places, adapter=False)

    def exhaust(*_: object) -> None:
        torch.empty(2**60)

    one._call = exhaust  # type: ignore[method-assign]
    with pytest.raises(LLMDiffError, match="not enough memory for a picture of 16x16"):
        one.draw(settings("a"))


@pytest.mark.fault("hostile sizes")
@pytest.mark.parametrize(("known", "steps"), [(1000, 1000), (1, 2), (5, 9)])
def test_more_steps_than_a_scheduler_has_are_a_sentence(places: Places, known: int, steps: int) -> None:
    """DDIM with an offset, as Stable Diffusion 1.5 has it, has one less than it was trained with."""
    one = renderer(places, adapter=False)
    one.pipe.scheduler = type(one.pipe.scheduler).from_config(one.pipe.scheduler.config, num_train_timesteps=known)
    with pytest.raises(LLMDiffError, match=rf"cannot draw in {steps} steps \(.*\): ask for less than {known}\."):
        one.draw(settings("a").model_copy(update={"steps": steps}))


def test_a_base_whose_parts_do_not_fit_is_a_sentence_with_its_reason(places: Places) -> None:
    one = renderer(places, adapter=False)
    one.pipe.unet.conv_in = torch.nn.Linear(3, 3)
    with pytest.raises(LLMDiffError, match=r"cannot draw \(.*shapes.*\): its parts do not fit each other") as caught:
        one.draw(settings("a"))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_errors_of_who_watches_are_not_hidden(places: Places) -> None:
    def fail(share: float) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        renderer(places, adapter=False).draw(settings("a"), fail)


@pytest.mark.fault("hostile sizes")
@pytest.mark.parametrize("size", [0, -8, 1.5, "8", [8], [8, "8"], [8, 8, 8], {}])
def test_a_size_that_no_picture_has_is_a_sentence(places: Places, size: object) -> None:
    one = renderer(places, adapter=False)
    one.pipe.unet.register_to_config(sample_size=size)
    with pytest.raises(LLMDiffError, match=r"has the sample_size .*, which no picture has"):
        one.default_size()


def test_the_embedded_size_needs_no_warning(places: Places) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        renderer(places).draw(settings("a red ball"))


def test_weights_are_no_text_to_a_base_model_without_the_adapter(places: Places) -> None:
    one = renderer(places)
    with one.base_alone():
        plain = one.draw(settings("a box", negative="red")).tobytes()
        assert one.draw(settings("a (box:1.4)", negative="[red]", prompt_weights=True)).tobytes() == plain
        assert one.draw(settings("a (box:1.4)", negative="[red]")).tobytes() != plain
