"""Child processes that end with us, however we end."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
STOP_S = 5


def die_with_parent() -> None:
    """Runs in the child before its program: the kernel ends it when the parent is gone, even by kill -9."""
    os.setsid()  # a Ctrl-C in the terminal is for us; we end our children after draining
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


async def stop(process: asyncio.subprocess.Process) -> None:
    """Asks the child to end, then insists."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def node_module(relative: str) -> Path | None:
    """A file of an installed npm package, looked for from this file upwards and from the working directory."""
    for folder in (*Path(__file__).resolve().parents, Path.cwd()):
        candidate = folder / "node_modules" / relative
        if candidate.exists():
            return candidate
    return None
