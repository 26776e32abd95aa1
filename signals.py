"""Signals that ask for the end: SIGTERM and SIGHUP stop a command as Ctrl-C does, and its worker processes with it."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)
_received: list[int] = []
_busy: list[bool] = []  # whether this worker process has a job that can be interrupted


@contextmanager
def heard_signals() -> Iterator[None]:
    """For the length of a block, SIGTERM and SIGHUP raise a KeyboardInterrupt.

    Where one is ignored from the start, as `nohup` has it, it stays ignored.
    """
    _received.clear()
    in_main = threading.current_thread() is threading.main_thread()
    usual = [one for one in _ENDING if in_main and signal.getsignal(one) is signal.SIG_DFL]
    for one in usual:
        signal.signal(one, _interrupt)
    try:
        yield
    finally:
        for one in usual:
            signal.signal(one, signal.SIG_DFL)


def exit_code() -> int:
    """The code of a command that was interrupted: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    _forget_lost_terminal()
    raise KeyboardInterrupt


def _forget_lost_terminal() -> None:
    """Where the terminal is gone, let what is still written there go nowhere, instead of failing."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        try:
            is_lost = stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream)
        except OSError:
            continue  # closed
        if is_lost:
            os.dup2(nowhere, stream)
    os.close(nowhere)


def obey_parent() -> None:
    """Make this worker process end with the one that started it: it alone hears Ctrl-C, and passes it on as SIGTERM."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for one in (signal.SIGINT, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _obey)


@contextmanager
def interruptible() -> Iterator[None]:
    """A worker process's job: SIGTERM interrupts it, once, and when it has left things in order the process ends."""
    _busy[:] = [True]
    try:
        yield
    except KeyboardInterrupt:
        if multiprocessing.parent_process() is not None:
            os._exit(128 + signal.SIGTERM)  # without a word: the parent speaks
        raise
    finally:
        _busy.clear()


def end_workers(others: Iterable[BaseProcess] = ()) -> None:
    """Interrupt the worker processes that this one started, but for `others`, which were there before."""
    for process in set(multiprocessing.active_children()).difference(others):
        process.terminate()


def _obey(_number: int, _frame: FrameType | None) -> None:
    if not _busy:
        os._exit(128 + signal.SIGTERM)
    if _busy[0]:
        _busy[0] = False
        raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Wait for the end of the process that started this one, and end: a command that is killed cannot tell others."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
