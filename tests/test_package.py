"""The package's front door."""

import subprocess
import sys

import pytest

import llmdiff


def test_public_names_are_there() -> None:
    assert {getattr(llmdiff, name).__name__ for name in llmdiff.__all__} == set(llmdiff.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = llmdiff.Nothing


def test_importing_it_does_not_import_torch() -> None:
    code = "import sys, llmdiff; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
