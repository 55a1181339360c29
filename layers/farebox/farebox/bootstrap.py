"""The composition root: the only place that knows concrete classes. Tests call the same functions with fakes."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from farebox import settings as settings_module
from farebox.adapters.audio_meter import AudioMeter
from farebox.adapters.catalog_files import load_catalog
from farebox.adapters.dynamodb.accounts import DynamoDBAccounts
from farebox.adapters.dynamodb.call_log import DynamoDBCallLog
from farebox.adapters.dynamodb.client import DynamoDB
from farebox.adapters.dynamodb.codes import DynamoDBCodes
from farebox.adapters.dynamodb.credentials import credential_source
from farebox.adapters.dynamodb.orders import DynamoDBOrders
from farebox.adapters.dynamodb.store import DynamoDBStore
from farebox.adapters.dynamodb.tables import Tables
from farebox.adapters.dynamodb.tries import DynamoDBTries
from farebox.adapters.http_session import LazySession, store_session
from farebox.adapters.journal import NoJournal
from farebox.adapters.payments import providers_of
from farebox.adapters.secrets import resolver
from farebox.adapters.signer_ed25519 import Ed25519Signer, public_keys
from farebox.adapters.system import SystemClock, SystemRandomness, offset_from_file
from farebox.adapters.tokenizer_tiktoken import TiktokenTokenizer
from farebox.adapters.uploads_local import LocalUploads, NoUploads
from farebox.adapters.uploads_s3 import S3Uploads, bucket_of
from farebox.adapters.upstream_aiohttp import AiohttpUpstream, new_session
from farebox.domain.catalog import Catalog
from farebox.http.address import AddressOf, networks, peer_address
from farebox.http.asgi import App
from farebox.http.models import ModelList
from farebox.http.relay_app import DeadlineOf, RelayApp, no_deadline
from farebox.http.uploads import UploadDesk
from farebox.ports import Accounts, Clock, Journal, Randomness, Store, Telemetry, Tokenizer, Uploads
from farebox.relay.call import Limits
from farebox.relay.channels import Channel, Channels
from farebox.relay.conclusion import Conclusion
from farebox.relay.count_tokens import TokenCounter
from farebox.relay.estimate import Estimator
from farebox.relay.forward import Forwarder
from farebox.relay.gate import Gate
from farebox.relay.plan import Planner
from farebox.relay.relay_request import Relay
from farebox.relay.running import Streams
from farebox.relay.settlements import Settlements
from farebox.service.authenticate import Authenticator
from farebox.service.codes import CodeDesk
from farebox.service.issue_key import KeyIssuer
from farebox.service.sweep import sweep
from farebox.service.topup import TopUpDesk
from farebox.service.usage import UsageQueries
from farebox.settings import Settings
from farebox.vendors import VENDORS

PRODUCTION = "production"
VENDOR_HAS_ADDRESS = {name: vendor.base_url is not None for name, vendor in VENDORS.items()}
CLOCK_VARIABLES = ("FAREBOX_CLOCK_OFFSET_S", "FAREBOX_CLOCK_FILE")


class BadEnvironment(Exception):
    """The process's environment is not one that Farebox may run in."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What only the operator knows. `pepper` keys digests and hashes, `signing_seed` (32 bytes) signs receipts."""

    pepper: bytes
    signing_seed: bytes


@dataclass(frozen=True, slots=True)
class StorePlace:
    """Where the store is. `local`: an embedded or test store, which checks no credentials."""

    endpoint: str
    region: str
    table_prefix: str
    local: bool


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that is built once per process."""

    settings: Settings
    secrets: Secrets
    catalog: Catalog
    channels: Channels
    clock: Clock
    random: Randomness
    tokenizer: Tokenizer
    db: DynamoDB
    tables: Tables
    store: Store
    accounts: Accounts
    signer: Ed25519Signer
    settlements: Settlements
    authenticator: Authenticator
    telemetry: Telemetry
    relay: Relay
    estimator: Estimator
    token_counter: TokenCounter
    uploads: Uploads
    sessions: tuple[LazySession, ...]

    async def close(self) -> None:
        """Waits for settlements, then lets go of connections."""
        await self.settlements.settled()
        await self.relay.streams.close()
        for session in self.sessions:
            await session.close()


def build(
    settings: Settings,
    secrets: Secrets,
    place: StorePlace,
    *,
    environ: Mapping[str, str],
    encodings: Path,
    telemetry: Telemetry,
    channels: tuple[Channel, ...] | None = None,
    clock: Clock | None = None,
    limits: Limits | None = None,
    journal: Journal | None = None,
    uploads_folder: Path | None = None,
) -> Services:
    """Builds all services; nothing connects yet. `channels` stand in for those of the settings (the demo).

    `uploads_folder`: where uploads lie if not in the bucket FAREBOX_UPLOADS_BUCKET.
    """
    clock = clock or clock_of(environ)
    random = SystemRandomness()
    catalog = load_catalog(extra=[Path(name) for name in settings.catalog_files])
    routes = Channels(channels or configured_channels(settings), random, clock)
    limits = limits or Limits(free=settings.free)
    to_store, to_upstream = LazySession(store_session), LazySession(partial(new_session, limits.silence_s))
    credentials = credential_source(to_store, environ, local=place.local)
    db = DynamoDB(
        to_store,
        endpoint=place.endpoint,
        region=place.region,
        credentials=credentials,
        clock=clock,
        random=random,
    )
    tables = Tables.under(place.table_prefix)
    signer = Ed25519Signer(secrets.signing_seed)
    store = DynamoDBStore(db, tables, signer=signer, reset_at=f"00:00 {settings.reset_timezone}")
    accounts = DynamoDBAccounts(db, tables)
    tokenizer = TiktokenTokenizer(encodings)
    settlements = Settlements()
    zone = ZoneInfo(settings.reset_timezone)
    conclusion = Conclusion(store, signer, clock, random, telemetry, limits, journal or NoJournal())
    gate = Gate(
        planner=Planner(catalog, routes, tokenizer, AudioMeter(), settings.free.input_tokens_max),
        store=store,
        clock=clock,
        settlements=settlements,
        conclusion=conclusion,
        limits=limits,
        zone=zone,
        pepper=secrets.pepper,
    )
    uploads: Uploads = NoUploads()
    if uploads_folder is not None:
        uploads = LocalUploads(uploads_folder, pepper=secrets.pepper, clock=clock, random=random)
    elif bucket := environ.get("FAREBOX_UPLOADS_BUCKET"):
        uploads = S3Uploads(to_store, bucket_of(bucket, place.region, environ), credentials, clock)
    upstream = AiohttpUpstream(to_upstream)
    relay = Relay(
        gate=gate,
        conclusion=conclusion,
        forwarder=Forwarder(routes, upstream, clock, random),
        store=store,
        clock=clock,
        telemetry=telemetry,
        settlements=settlements,
        streams=Streams(store),
        limits=limits,
        zone=zone,
    )
    return Services(
        settings=settings,
        secrets=secrets,
        catalog=catalog,
        channels=routes,
        clock=clock,
        random=random,
        tokenizer=tokenizer,
        db=db,
        tables=tables,
        store=store,
        accounts=accounts,
        signer=signer,
        settlements=settlements,
        authenticator=Authenticator(accounts, settlements, clock, secrets.pepper),
        telemetry=telemetry,
        relay=relay,
        estimator=Estimator(catalog, store, gate),
        token_counter=TokenCounter(gate.planner, upstream),
        uploads=uploads,
        sessions=(to_store, to_upstream),
    )


def relay_app(
    services: Services,
    address_of: AddressOf | None = None,
    deadline_of: DeadlineOf = no_deadline,
    *,
    freezes: bool = False,
) -> RelayApp:
    """The relay: functions/proxy."""
    return RelayApp(
        services.relay,
        ModelList(services.catalog, services.channels, services.authenticator),
        clock=services.clock,
        random=services.random,
        address_of=address_of or peer_address(networks(services.settings.trusted_proxies)),
        deadline_of=deadline_of,
        authenticator=services.authenticator,
        estimator=services.estimator,
        token_counter=services.token_counter,
        uploads=UploadDesk(
            services.uploads, services.authenticator, services.clock, services.random, services.secrets.pepper
        ),
        close=services.close,
        freezes=freezes,
    )


def keys_app(services: Services) -> App:
    """The admin's calls and top-ups: functions/keys. FastAPI is imported here, so that the relay starts without it."""
    from farebox.http.keys_app import keys_app as new
    from farebox.http.topup import topup_routes

    codes = code_desk(services)
    return new(
        services.accounts,
        issuer(services),
        services.catalog,
        services.settlements,
        jobs(services),
        codes=codes,
        routes=topup_routes(codes, topup_desk(services), peer_address(networks(services.settings.trusted_proxies))),
        clock=services.clock,
        random=services.random,
        admin_token=services.settings.admin_token,
    )


def issuer(services: Services) -> KeyIssuer:
    return KeyIssuer(services.accounts, services.clock, services.random, services.secrets.pepper)


def code_desk(services: Services) -> CodeDesk:
    return CodeDesk(
        DynamoDBCodes(services.db, services.tables),
        DynamoDBTries(services.db, services.tables),
        services.accounts,
        services.authenticator,
        services.clock,
        services.random,
        services.secrets.pepper,
    )


def topup_desk(services: Services) -> TopUpDesk:
    settings = services.settings
    return TopUpDesk(
        providers_of(settings, services.sessions[0], services.clock),
        DynamoDBOrders(services.db, services.tables),
        DynamoDBTries(services.db, services.tables),
        services.authenticator,
        services.clock,
        services.random,
        services.telemetry,
        services.secrets.pepper,
        public_url=settings.public_url,
        return_url=settings.return_url,
    )


def billing_app(services: Services) -> App:
    """Queries and pages: functions/billing."""
    from farebox.http.billing_app import billing_app as new
    from farebox.http.dashboards import dashboard_routes
    from farebox.http.queries import query_routes
    from farebox.http.status_page import StatusFacts

    settings, authenticator = services.settings, services.authenticator
    address_of = peer_address(networks(settings.trusted_proxies))
    log = DynamoDBCallLog(services.db, services.tables)
    usage = UsageQueries(log, services.clock, ZoneInfo(settings.reset_timezone))
    return new(
        services.accounts,
        authenticator,
        StatusFacts(services.channels.all),
        clock=services.clock,
        random=services.random,
        public_keys=public_keys(services.signer.public_key, settings.previous_receipt_keys),
        address_of=address_of,
        routes=(
            query_routes(usage, authenticator, address_of),
            dashboard_routes(usage, services.store, authenticator, address_of, settings.free),
        ),
    )


def jobs(services: Services) -> Mapping[str, Callable[[], Coroutine[Any, Any, dict[str, int]]]]:
    """What the schedule runs, by name."""
    return {"sweep": partial(sweep, services.accounts, services.store, services.clock, services.telemetry)}


def configured_channels(settings: Settings) -> tuple[Channel, ...]:
    """The channels of the settings, each with its vendor."""
    return tuple(
        Channel(
            name=each.name,
            vendor=VENDORS[each.vendor],
            base_url=each.base_url or VENDORS[each.vendor].base_url or "",
            keys=each.keys,
            models=each.models,
            rename=each.rename,
            priority=each.priority,
            weight=each.weight,
            api_version=each.api_version,
            first_content_s=each.first_content_s,
        )
        for each in settings.channels
    )


def settings_of(
    environ: Mapping[str, str], path: Path | None, needed: frozenset[str] = frozenset(settings_module.Sections)
) -> Settings:
    """The settings in `path`, or the defaults, with the secrets of the `needed` sections. Raises SettingsError.

    Where no [admin] is written, the admin token is FAREBOX_ADMIN_TOKEN's value, if that is set.
    """
    document: dict[str, Any] = {}
    if path is not None:
        try:
            document = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise settings_module.SettingsError([f"{path.name}: {error}"]) from None
    if "admin" not in document and environ.get("FAREBOX_ADMIN_TOKEN"):
        document["admin"] = {"token": "env:FAREBOX_ADMIN_TOKEN"}
    settings = settings_module.read(document, resolver(environ), vendors=VENDOR_HAS_ADDRESS, needed=needed)
    folder = path.parent if path is not None else Path()
    return replace(settings, catalog_files=tuple(str(folder / name) for name in settings.catalog_files))


def clock_of(environ: Mapping[str, str]) -> SystemClock:
    """The system's clock; a test may shift it, production never. Raises BadEnvironment."""
    shifted = [name for name in CLOCK_VARIABLES if environ.get(name)]
    if shifted and environ.get("FAREBOX_ENV") == PRODUCTION:
        raise BadEnvironment(f"{shifted[0]} is for tests only and refused in production")
    if path := environ.get("FAREBOX_CLOCK_FILE"):
        return SystemClock(offset_from_file(Path(path)))
    try:
        offset_s = float(environ.get("FAREBOX_CLOCK_OFFSET_S") or 0)
    except ValueError:
        raise BadEnvironment("FAREBOX_CLOCK_OFFSET_S must be a number of seconds") from None
    return SystemClock(lambda: offset_s)
