"""The demo upstream's process, and the channel that leads to it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import cast

from farebox.local.child import die_with_parent, node_module, stop
from farebox.relay.channels import Channel
from farebox.vendors import VENDORS

SCRIPT = Path(__file__).with_name("demo_upstream.mjs")
READY_S = 20
NAME = "demo"


class DemoMissing(Exception):
    """Node or the demo's npm package is not there."""


class DemoUpstream:
    """Plays the vendors while no channel is configured. It ends when our end of its input closes."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self.channel: Channel | None = None

    async def start(self) -> Channel:
        """The channel to it. Raises DemoMissing, TimeoutError."""
        node = shutil.which("node")
        if node is None or node_module("@copilotkit/aimock/package.json") is None:
            raise DemoMissing("no channel is configured, and the demo upstream needs Node and `make setup`")
        self._process = await asyncio.create_subprocess_exec(
            node,
            str(SCRIPT),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        async with asyncio.timeout(READY_S):
            line = (await cast(asyncio.StreamReader, self._process.stdout).readline()).decode()
        if not line:
            raise DemoMissing("the demo upstream did not start")
        return Channel(
            name=NAME,
            vendor=VENDORS["openai"],
            base_url=line.split()[-1] + "/v1",
            keys=("demo",),
            demo=True,
        )

    async def stop(self) -> None:
        if self._process is not None:
            await stop(self._process)
