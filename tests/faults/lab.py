"""The store of all fault tests: one embedded store in memory, one loop, what every process of a run shares."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from farebox.adapters.catalog_files import load_catalog
from farebox.adapters.dynamodb.client import DynamoDB
from farebox.adapters.dynamodb.credentials import LOCAL, Fixed
from farebox.adapters.dynamodb.tables import Tables, ensure
from farebox.adapters.http_session import LazySession, store_session
from farebox.adapters.signer_ed25519 import Ed25519Signer
from farebox.adapters.system import SystemClock
from farebox.adapters.tokenizer_tiktoken import TiktokenTokenizer
from farebox.domain.catalog import Catalog, Price
from farebox.local.store_process import free_port, program
from tests.fakes.faulty_db import Crash
from tests.fakes.service import ENCODINGS

ZONE = ZoneInfo("Asia/Shanghai")
MINUTE_MS = 60_000
NOON_MS = 1_795_492_800_000
"""2026-11-24T12:00 in Shanghai."""
DEARER_MS = NOON_MS + 6 * 60 * MINUTE_MS
"""From here on MODEL costs twice as much."""
MODEL = "gpt-4o-mini"


class PlainRandomness:
    """Secrets are random; jitter is nought, so that nobody waits."""

    def token(self, length: int) -> bytes:
        return os.urandom(length)

    def below(self, limit: int) -> int:
        return 0


class Lab:
    """Open it, `run` coroutines in its loop, close it."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._runner.get_loop().set_exception_handler(_quiet_about_the_dead)
        self._process: subprocess.Popen[bytes] | None = None
        self._session = LazySession(store_session)
        self.random = PlainRandomness()
        self.signer = Ed25519Signer(b"s" * 32)
        self.pepper = b"p" * 32
        self.tables = Tables.under("lab-")
        self.journals = Path(tempfile.mkdtemp(prefix="farebox-lab-"))
        self.tokenizer = TiktokenTokenizer(ENCODINGS)
        self.catalog = _with_a_dearer_price(load_catalog())
        self.db: DynamoDB

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def open(self) -> Lab:
        port = free_port()
        self._process = subprocess.Popen(
            [str(program()), "--host", "127.0.0.1", "--port", str(port)],  # no file: it lives in memory
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.db = DynamoDB(
            self._session,
            endpoint=f"http://127.0.0.1:{port}",
            region="us-east-1",
            credentials=Fixed(LOCAL),
            clock=SystemClock(lambda: 0),
            random=self.random,
        )
        self.run(self._ready(port))
        return self

    def close(self) -> None:
        with suppress(BaseException):
            self.run(self._session.close())
        self._runner.close()
        shutil.rmtree(self.journals)
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    async def _ready(self, port: int) -> None:
        async with asyncio.timeout(15):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.02)
        await ensure(self.db, self.tables)


def _with_a_dearer_price(catalog: Catalog) -> Catalog:
    model = catalog.models[MODEL]
    last = model.prices[-1]
    dearer = Price(DEARER_MS, f"{MODEL}@dearer", {unit: 2 * nano for unit, nano in last.rates.items()})
    return Catalog({**catalog.models, MODEL: replace(model, prices=(*model.prices, dearer))})


def _quiet_about_the_dead(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), Crash):
        loop.default_exception_handler(context)
