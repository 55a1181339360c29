"""A whole Farebox in a thread: real uvicorn, the real embedded store, a clock that a test can set."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from farebox.adapters.dynamodb.tables import ensure
from farebox.adapters.telemetry import NoTelemetry
from farebox.bootstrap import Secrets, Services, StorePlace, billing_app, build, keys_app, relay_app
from farebox.domain import keys
from farebox.domain.accounts import Account, KeyRecord
from farebox.domain.money import parse_ca
from farebox.local.one_origin import OneOrigin
from farebox.local.store_process import EmbeddedStore, free_port
from farebox.relay.call import Limits
from farebox.relay.channels import Channel
from farebox.settings import Settings
from farebox.vendors import VENDORS

REPO = Path(__file__).resolve().parents[2]
ENCODINGS = REPO / "layers" / "tiktoken" / "encodings"
ADMIN_TOKEN = "admin-token-of-the-tests"


class SetClock:
    """The real time, shifted by `offset_ms`, or standing still at `fixed_ms`."""

    def __init__(self) -> None:
        self.offset_ms = 0
        self.fixed_ms: int | None = None

    def now_ms(self) -> int:
        return self.fixed_ms if self.fixed_ms is not None else time.time_ns() // 1_000_000 + self.offset_ms


@dataclass
class Funded:
    """A key with its account."""

    text: str
    id: str
    account: str


class RunningFarebox:
    """`base_url` answers after start(); `run(coroutine)` runs in its loop."""

    def __init__(
        self,
        data_dir: Path,
        upstream_url: str,
        settings: Settings | None = None,
        limits: Limits | None = None,
        store_endpoint: str | None = None,
        channels: tuple[Channel, ...] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.clock = SetClock()
        self._store_endpoint = store_endpoint  # None: an embedded store of its own
        self._limits = limits
        self._environ = environ  # None: empty, and uploads lie in a folder
        self._channels = channels  # None: one that plays every model, by OpenAI's door
        self.settings = settings or Settings(admin_token=ADMIN_TOKEN)
        self._data_dir = data_dir
        self._upstream_url = upstream_url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, daemon=True)
        self._port = free_port()
        self.services: Services
        self.store: EmbeddedStore
        self._server: uvicorn.Server
        self._serving: asyncio.Task[None]

    @property
    def uploads_folder(self) -> Path:
        return self._data_dir / "uploads"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def start(self) -> RunningFarebox:
        self._thread.start()
        self.run(self._start())
        return self

    def stop(self) -> None:
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def new_key(self, kind: str = "paid", credit: str = "100", **record: Any) -> Funded:
        """A fresh account with one key."""
        random = self.services.random.token
        key = keys.mint(kind, keys.mint_account(random), random)
        made = KeyRecord(
            id=key.id,
            account=key.account,
            number=key.number,
            kind=kind,
            last4=key.last4,
            created_ms=self.clock.now_ms(),
            **record,
        )
        digest = key.digest(self.services.secrets.pepper)
        create = self.services.accounts.create(
            key, digest, made, credit_nano=parse_ca(credit), at_ms=self.clock.now_ms()
        )
        self.run(create)
        return Funded(key.text, key.id, key.account)

    def account(self, account: str) -> Account:
        """The account once all is settled."""
        self.run(self.services.settlements.settled())
        return self.run(self.services.accounts.get(account))

    def receipts(self, account: str) -> list[dict[str, Any]]:
        """The account's receipts, oldest first, as documents."""
        import json

        self.run(self.services.settlements.settled())
        entries = self.run(self.services.accounts.entries(account))
        found = [
            self.run(self.services.accounts.receipt(account, entry)) for entry, _ in entries if entry.startswith("req_")
        ]
        return [json.loads(each.document) for each in found]

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _start(self) -> None:
        self.store = EmbeddedStore(self._data_dir / "store.sqlite")
        if self._store_endpoint is None:
            await self.store.start()
        channel = Channel(
            name="scripted", vendor=VENDORS["openai"], base_url=self._upstream_url, keys=("sk-up",), demo=True
        )
        self.services = build(
            self.settings,
            Secrets(b"p" * 32, b"s" * 32),
            StorePlace(self._store_endpoint or self.store.endpoint, "us-east-1", "test-", local=True),
            environ=self._environ or {},
            encodings=ENCODINGS,
            telemetry=NoTelemetry(),
            channels=self._channels or (channel,),
            clock=self.clock,
            limits=self._limits,
            uploads_folder=self.uploads_folder if self._environ is None else None,
        )
        await ensure(self.services.db, self.services.tables)
        app = OneOrigin(
            relay_app(self.services),
            keys_app(self.services),
            billing_app(self.services),
            on_start=_nothing,
            on_stop=_nothing,
        )
        config = uvicorn.Config(
            app,
            port=self._port,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            lifespan="off",
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._server.capture_signals = _no_signals  # type: ignore[method-assign]
        self._serving = asyncio.create_task(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0.01)

    async def _stop(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        await self._serving
        await self.services.close()
        await self.store.stop()


async def _nothing() -> None:
    pass


def _no_signals() -> Any:
    from contextlib import nullcontext

    return nullcontext()
