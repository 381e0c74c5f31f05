"""Kill -9 at every step: a forked child runs until its n-th change to the file system, for n = 1, 2, 3, ..."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

_STEPS = frozenset({"open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"})


def killed_at_every_step(
    folder: Path, prepare: Callable[[Path], None], work: Callable[[Path], object]
) -> Iterator[Path]:
    """Folders as kills leave them, one after each step of `work`, each prepared afresh; the last ran to its end."""
    for step in count(1):
        root = folder / f"step-{step}"
        root.mkdir()
        prepare(root)
        survived = _survives(root, work, step)
        yield root
        if survived:
            assert step > 3, "the work took so few steps that this tested nothing"
            return


def _survives(root: Path, work: Callable[[Path], object], step: int) -> bool:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        try:
            sys.addaudithook(_killer(str(root), step))
            work(root)
        except BaseException as error:
            print(f"the work failed: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, "the work hung"
        return False
    assert os.WEXITSTATUS(status) == 0, "the work failed by itself; see stderr"
    return True


def _killer(root: str, step: int) -> Callable[[str, tuple[Any, ...]], None]:
    steps_left = step

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal steps_left
        if name in _STEPS and arguments and str(arguments[0]).startswith(root):
            steps_left -= 1
            if steps_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook
