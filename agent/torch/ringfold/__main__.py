"""Starts a script beside an agent: `python3 -m ringfold train.py ARGUMENTS`. Says in one line why a script has failed."""

from __future__ import annotations

import ctypes
import faulthandler
import importlib.metadata
import os
import platform
import runpy
import signal
import sys
import traceback

from . import channel, session


def main() -> int:
    _end_with_agent()
    faulthandler.enable()  # a crash, or an agent that waits in vain, leaves a traceback of all threads in the log
    script, sys.argv = sys.argv[1], sys.argv[1:]
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    link = channel.Channel()
    channel.current = link
    link.send("hello", protocol=channel.PROTOCOL, python=platform.python_version(), torch=_torch_version())
    try:
        return _run(script, link)
    finally:
        link.close()


def _run(script: str, link: channel.Channel) -> int:
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as ending:
        if ending.code in (None, 0):
            return 0
        reason = f"sys.exit({ending.code!r})"
    except BaseException as error:  # noqa: B902  KeyboardInterrupt ends a script like any other
        traceback.print_exc()
        missing = isinstance(error, ModuleNotFoundError) and error.name == "torch"
        full = isinstance(error, session.SharedMemoryFull)
        reason = "torch is missing" if missing else str(error) if full else _last_line(error)
        link.send("failed", reason=reason[:1_000], torchMissing=missing, sharedMemoryFull=full)
        return 1
    else:
        return 0
    link.send("failed", reason=reason[:1_000], torchMissing=False, sharedMemoryFull=False)
    return 1


def _last_line(error: BaseException) -> str:
    """As the last line of a traceback, and where in the script it was."""
    said = traceback.format_exception_only(type(error), error)[-1].strip()
    script = os.path.basename(sys.argv[0])
    place = [f for f in traceback.extract_tb(error.__traceback__) if os.path.basename(f.filename) == script]
    return f"{said} ({script}:{place[-1].lineno})" if place else said


def _torch_version() -> str | None:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None


def _end_with_agent() -> None:
    """Without it a script would go on computing after its agent was killed, until the next all-reduce. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


sys.exit(main())
