"""Commands in processes of their own that do not import the libraries again, which takes longer than they.

`run_python` does what `subprocess.run([sys.executable, *words], ...)` does. One process has imported the
libraries, and nothing of this project; each command is a fork of it. It has one thread: a fork loses nothing.
"""

import atexit
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

# Not pandas: it starts a thread (of pyarrow's allocator).
LIBRARIES = ("torch._dynamo", "torchvision", "timm", "lpips", "h5py", "av", "PIL.Image", "scipy.ndimage",
             "huggingface_hub", "safetensors.torch")  # fmt: skip


def run_python(
    words: list[str], folder: Path, environment: Mapping[str, str], timeout: float = 900
) -> "subprocess.CompletedProcess[str]":
    """`python WORDS` (a file, or -m and a module) in a folder: its exit code, and what it printed.

    Raises:
        subprocess.TimeoutExpired: it took longer than `timeout` seconds, and was killed.
    """
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.TemporaryDirectory() as kept:
        printed = [str(Path(kept) / name) for name in ("stdout", "stderr")]
        request = [words, str(folder), dict(environment), printed, timeout]
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = json.loads(server.stdout.readline())
        if code is None:
            raise subprocess.TimeoutExpired(words, timeout)
        texts = [Path(name).read_text(encoding="utf-8", errors="replace") for name in printed]
    return subprocess.CompletedProcess(words, code, *texts)


@cache
def _server() -> "subprocess.Popen[str]":
    """The process that is forked, one for all tests of this process. It ends when its standard input does."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [sys.executable, __file__],
        env=environment | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    atexit.register(process.stdin.close)
    return process


def _serve() -> list[str]:
    """Answer each request with the exit code of a fork. Returns in the forks alone: the command to be."""
    while line := sys.stdin.readline():
        words, folder, environment, printed, timeout = json.loads(line)
        assert len(os.listdir("/proc/self/task")) == 1, "a library has threads, which a fork would lose"
        child = os.fork()
        if child == 0:
            _enter(folder, environment, printed)
            return words
        print(json.dumps(_exit_code(child, timeout)), flush=True)
    os._exit(0)


def _exit_code(child: int, timeout: float) -> int | None:
    """Of a fork, negative for a signal; None where it was killed because its time was up."""
    handle = os.pidfd_open(child)
    ended, _, _ = select.select([handle], [], [], timeout)
    if not ended:
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(handle)
    return os.waitstatus_to_exitcode(status) if ended else None


def _enter(folder: str, environment: dict[str, str], printed: list[str]) -> None:
    """Give this fork the session, folder, environment and files of a new process."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in enumerate(printed, start=1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)


def _become(words: list[str]) -> None:
    """Run a command as the interpreter would."""
    module = words[1] if words[0] == "-m" else None
    given = os.environ.get("PYTHONPATH", "")
    first = os.getcwd() if module else str(Path(words[0]).resolve().parent)
    sys.path[:0] = [first, *filter(None, given.split(os.pathsep))]
    sys.argv[:] = words[1:] if module else words
    if module:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        file = Path(words[0]).absolute()
        main = sys.modules["__main__"] = ModuleType("__main__")
        main.__file__ = str(file)
        exec(compile(file.read_bytes(), file, "exec"), main.__dict__)


if __name__ == "__main__":
    del sys.path[0]  # the folder of tests
    for library in LIBRARIES:
        __import__(library)
    assert not any(name.partition(".")[0] in ("uwm", "paper", "tests") for name in sys.modules)
    _become(_serve())
