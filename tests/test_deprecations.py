"""Deprecations of the hosts fail a test: a deliberate one of each kind does."""

import warnings

import pytest
from diffusers.utils import deprecate
from transformers import LlamaConfig
from transformers.utils import logging as transformers_logging
from transformers.utils.deprecation import deprecate_kwarg

from deprecations import refused


@pytest.fixture(autouse=True)
def _no_deprecated_calls_of_hosts() -> None:
    """In place of the one of all tests, which would fail these."""


def test_what_diffusers_will_take_away_is_an_error() -> None:
    with pytest.raises(FutureWarning, match="`old` is deprecated"):
        deprecate("old", "99.0.0", "Use `new`.")


def test_what_transformers_will_take_away_is_an_error() -> None:
    @deprecate_kwarg("old", version="99.0.0", new_name="new")
    def call(new: int) -> int:
        return new

    with pytest.raises(FutureWarning, match="`old` is deprecated"):
        call(old=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("module", "category"),
    [
        ("accelerate.utils.other", FutureWarning),
        ("peft.tuners.lora", FutureWarning),
        ("llmdiff.training.run", FutureWarning),
        ("llmdiff.training.run", DeprecationWarning),
    ],
)
def test_a_deprecation_is_an_error_wherever_it_is_attributed_to(module: str, category: type[Warning]) -> None:
    with pytest.raises(category, match="goes away"):
        warnings.warn_explicit("it goes away", category, "file.py", 1, module=module)


def test_what_is_only_logged_is_an_error_too() -> None:
    logger = transformers_logging.get_logger("transformers.models.some")

    def use_the_old() -> None:
        with refused():
            logger.warning("`old` is deprecated! Use `new` instead!")

    with pytest.raises(AssertionError, match=r"transformers\.models\.some: `old` is deprecated"):
        use_the_old()
    with refused():
        logger.warning("this model is large")


def test_what_one_host_takes_of_another_is_not_ours_to_mend() -> None:
    logger = transformers_logging.get_logger("transformers.models.some")
    inside = {"__name__": "diffusers.pipelines.some", "logger": logger}
    exec("def call(work): work()\ndef use_the_old(): logger.warning('`old` is deprecated!')", inside)
    with refused():
        inside["use_the_old"]()
    ours = {"__name__": "llmdiff.training.some", "logger": logger}
    exec("def use_the_old(): logger.warning('`old` is deprecated!')", ours)

    def use_the_old() -> None:
        with refused():
            inside["call"](ours["use_the_old"])

    with pytest.raises(AssertionError, match="is deprecated"):
        use_the_old()


def test_a_deprecated_attribute_of_transformers_is_seen() -> None:
    """A real one, of the version at hand."""
    transformers_logging.warning_once.cache_clear()  # it is logged once in a process

    def use_the_old() -> None:
        with refused():
            assert LlamaConfig().use_return_dict

    with pytest.raises((AssertionError, FutureWarning), match="`use_return_dict` is deprecated"):
        use_the_old()
