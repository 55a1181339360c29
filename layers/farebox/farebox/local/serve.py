"""Runs the whole service in this process: store, demo upstream, applications, jobs; drains when asked to end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import uvicorn

from farebox.adapters.dynamodb.tables import ensure
from farebox.adapters.journal import FileJournal
from farebox.adapters.telemetry import NoTelemetry, PowertoolsTelemetry
from farebox.bootstrap import Services, StorePlace, billing_app, build, keys_app, relay_app, settings_of
from farebox.domain.catalog import TOKENIZERS
from farebox.local.data_dir import DataDir
from farebox.local.demo_process import DemoUpstream
from farebox.local.first_run import banner, demo_keys
from farebox.local.one_origin import OneOrigin
from farebox.local.store_process import EmbeddedStore
from farebox.service.sweep import sweep

SWEEP_EVERY_S = 60
DRAIN_S = 900
REGION = "us-east-1"
TABLE_PREFIX = "farebox-"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. `demo` makes an admin token and keys, and prints them."""

    host: str
    port: int
    data_dir: Path
    config: Path | None
    demo: bool


async def serve(options: Options, environ: Mapping[str, str] = os.environ) -> None:
    """Runs until a signal. Raises SettingsError, DirectoryInUse, StoreMissing, DemoMissing, BadEnvironment,
    StoreUnavailable."""
    settings = settings_of(environ, options.config)
    data = DataDir(options.data_dir)
    async with AsyncExitStack() as stack:
        stack.enter_context(data.claim())
        if options.demo and settings.admin_token is None:
            settings = replace(settings, admin_token=data.admin_token())
        endpoint = settings.store_endpoint
        if endpoint is None:
            store = EmbeddedStore(data.database)
            await store.start()
            stack.push_async_callback(store.stop)
            endpoint = store.endpoint
        channels = None
        if not settings.channels:
            demo = DemoUpstream()
            channels = (await demo.start(),)
            stack.push_async_callback(demo.stop)
        place = StorePlace(
            endpoint=endpoint,
            region=environ.get("AWS_REGION", REGION),
            table_prefix=environ.get("FAREBOX_TABLE_PREFIX", TABLE_PREFIX),
            local=True,
        )
        journal = FileJournal(data.journal)
        stack.callback(journal.close)
        services = build(
            settings,
            data.secrets(),
            place,
            environ=environ,
            encodings=encodings_dir(environ),
            telemetry=PowertoolsTelemetry("farebox", metrics=False) if environ.get("FAREBOX_LOG") else NoTelemetry(),
            channels=channels,
            journal=journal,
            uploads_folder=data.uploads,
        )
        stack.push_async_callback(services.close)
        # The rank files take a third of a second: nobody's first request should wait for them.
        warming = (asyncio.to_thread(services.tokenizer.count, encoding, "") for encoding in sorted(TOKENIZERS))
        await asyncio.gather(ensure(services.db, services.tables), *warming)
        for settlement in journal.open():  # what a killed process had concluded and not yet told the store
            await services.store.settle(settlement)
            journal.forget(settlement.request_id)
        await _listen(options, services, data)


async def _listen(options: Options, services: Services, data: DataDir) -> None:
    jobs: list[asyncio.Task[None]] = []

    async def start() -> None:
        jobs.append(asyncio.create_task(_sweep_for_ever(services)))

    async def end() -> None:
        for job in jobs:
            job.cancel()
            with suppress(asyncio.CancelledError):
                await job

    app = OneOrigin(relay_app(services), keys_app(services), billing_app(services), on_start=start, on_stop=end)
    server = _Server(
        uvicorn.Config(
            app,
            host=options.host,
            port=options.port,
            loop="uvloop",
            http="httptools",
            access_log=False,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=DRAIN_S,
            h11_max_incomplete_event_size=None,
        )
    )
    keys = await demo_keys(services, data) if options.demo else None
    server.on_ready = lambda url: print(banner(url, services, keys), end="", flush=True)
    await server.serve()


async def _sweep_for_ever(services: Services) -> None:
    while True:
        with suppress(Exception):  # a store that is away is tried again at the next turn
            await sweep(services.accounts, services.store, services.clock, services.telemetry)
        with suppress(OSError):
            await services.uploads.sweep()
        await asyncio.sleep(SWEEP_EVERY_S)


class _Server(uvicorn.Server):
    """Says when it listens, and where."""

    on_ready: Callable[[str], None]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as uvicorn calls it
        """The first signal drains, the second insists: what still runs is cut, billed for what came, and settled."""
        if self.should_exit:
            for task in self.server_state.tasks:
                task.cancel()
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own way would end the process before our children."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.should_exit or not self.servers:
            return
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        self.on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")


def encodings_dir(environ: Mapping[str, str]) -> Path:
    """Where the rank files are: TIKTOKEN_CACHE_DIR, else the repo's layer."""
    if given := environ.get("TIKTOKEN_CACHE_DIR"):
        return Path(given)
    return Path(__file__).resolve().parents[3] / "tiktoken" / "encodings"


def run(options: Options) -> None:
    """Blocks until the service ends."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options))
    sys.stdout.flush()
