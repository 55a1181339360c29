"""The embedded store: dynoxide, a DynamoDB-compatible server on SQLite, in a process of its own."""

from __future__ import annotations

import asyncio
import platform
import shutil
import socket
import sys
from contextlib import suppress
from pathlib import Path

from farebox.local.child import die_with_parent, node_module, stop

READY_S = 15
RESTART_PAUSE_S = 0.2


class StoreMissing(Exception):
    """There is no dynoxide for this machine, or it does not run."""


class EmbeddedStore:
    """Runs dynoxide on `database`, and runs it again if it dies: every acknowledged write is in the file."""

    def __init__(self, database: Path, *, port: int | None = None) -> None:
        self._database = database
        self._port = port or free_port()
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Returns when it accepts connections. Raises StoreMissing, TimeoutError."""
        await self._spawn()
        self._watch = asyncio.create_task(self._restart_if_it_dies())

    async def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        if self._process is not None:
            await stop(self._process)

    async def _spawn(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            str(program()),
            *("--host", "127.0.0.1", "--port", str(self._port), "--db-path", str(self._database)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        async with asyncio.timeout(READY_S):
            while not await self._accepts():
                if self._process.returncode is not None:
                    raise StoreMissing(f"the embedded store ended while it started on {self._database}")
                await asyncio.sleep(0.02)

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        writer.close()
        return True

    async def _restart_if_it_dies(self) -> None:
        while self._process is not None:
            await self._process.wait()
            await asyncio.sleep(RESTART_PAUSE_S)
            with suppress(StoreMissing, TimeoutError, OSError):  # it may die while it starts, too
                await self._spawn()


def program() -> Path:
    """The dynoxide of this machine, from npm or on the PATH. Raises StoreMissing."""
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine().lower())
    packaged = node_module(f"@dynoxide/{sys.platform}-{machine}/dynoxide")
    found = packaged or shutil.which("dynoxide")
    if found is None:
        raise StoreMissing(
            "the embedded store (npm package @dynoxide/…) is not installed for this machine: "
            "run make setup, or name a DynamoDB in [store] endpoint"
        )
    return Path(found)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
