"""A process that has imported msdn and torch once, and forks a child for each command: seconds become milliseconds.

Reads a request a line from stdin, answers a line on stdout. Before the fork nothing computes: torch's threads do not
survive one.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from shim import CONTROL, Action, Control, Kind, Order

LIGHT = "--light"  # only what needs no torch
SLOW = (
    "torch",
    "torch._dynamo",
    "torchvision.models",
    "scipy.io",
    "matplotlib.pyplot",
    "PIL.Image",
    "rich.console",
)


def load() -> None:
    """Import all that a command may."""
    import msdn

    importlib.import_module("cases").register()
    if LIGHT in sys.argv:
        return
    for module in pkgutil.walk_packages(msdn.__path__, "msdn."):
        if module.name.split(".")[1] in ("cache", "extract", "train", "app"):
            importlib.import_module(module.name)
    for name in SLOW:
        importlib.import_module(name)


def serve() -> dict[str, Any] | None:
    """Answer requests; returns in a child, with what it is to do."""
    answers = os.fdopen(os.dup(1), "w")
    control = Control(Path(os.environ[CONTROL]))
    print(json.dumps({"ready": os.getpid()}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            become(request, control)
            return request
        answer = wait_for(child, request["timeout"])
        answer["calls"], answer["hits"] = control.disarm()
        print(json.dumps(answer), file=answers, flush=True)
    return None


def become(request: dict[str, Any], control: Control) -> None:
    """Turn this child into the program that was asked for."""
    os.setsid()
    for fd, path in ((1, request["stdout"]), (2, request["stderr"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), fd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["folder"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["msdn", *request["arguments"]]
    order = request["order"]
    if order is not None:
        told = Order(**order | {"action": Action(order["action"]), "kinds": Kind(order["kinds"])})
        control.arm(Path(request["folder"]), Path(request["log"]), told)


def wait_for(child: int, timeout: float) -> dict[str, Any]:
    """Wait for a child and all of its group; one that takes too long is killed."""
    pidfd = os.pidfd_open(child)
    hung = not select.select([pidfd], [], [], timeout)[0]
    os.close(pidfd)
    if hung:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for _ in range(400):  # whatever it left behind must not write into the next command's folder
        try:
            os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:
            break
        time.sleep(0.005)
    return {"status": status, "hung": hung}


def end(code: object) -> None:
    """Leave as Python does, but for freeing a gigabyte of modules one by one."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    for library in {
        line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libhdf5-" in line
    }:
        ctypes.CDLL(library).H5close()  # its own last words
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    load()
    gc.freeze()  # nothing of it is looked at, and copied, in a child
    if serve() is not None:
        from msdn.cli import main

        ended: object = 0
        try:
            main(prog_name="msdn")
        except SystemExit as error:
            ended = error.code or 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
            ended = 1
        end(ended)
    os._exit(0)
