"""Optional packages, and addresses of this machine."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmdiff.errors import LLMDiffError
from llmdiff.extras import extra
from llmdiff.loopback import is_loopback
from llmdiff.plots import check_matplotlib, new_figure, png_of


def test_a_missing_package_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for missing in (check_matplotlib, lambda: new_figure(1, 1)):
        with pytest.raises(LLMDiffError, match=r"^This needs matplotlib: pip install 'llmdiff-adapter\[plot\]'\.$"):
            missing()


def test_other_errors_are_left_as_they_are() -> None:
    with pytest.raises(OSError, match=r"^full$"), extra("plot"):
        raise OSError("full")


def test_a_figure_is_a_png() -> None:
    assert png_of(new_figure(2, 1)).startswith(b"\x89PNG")


@given(st.ip_addresses())
def test_an_address_leads_here_if_its_network_is_that_of_loopback(address: object) -> None:
    here = str(address) == "::1" or str(address).startswith("127.")
    assert is_loopback(str(address)) is here


@pytest.mark.parametrize(("host", "here"), [("localhost", True), ("127.0.0.1", True), ("::1", True), ("", False),
                                            ("0.0.0.0", False), ("localhost.example.org", False)])  # fmt: skip
def test_names_of_this_machine(host: str, here: bool) -> None:
    assert is_loopback(host) is here


def test_wrong_settings_of_matplotlib_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("MPLBACKEND", "none such")
    with pytest.raises(LLMDiffError, match=r"^matplotlib cannot be used \(.*none such.*\): correct its settings"):
        check_matplotlib()
