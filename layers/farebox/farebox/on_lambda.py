"""The same applications behind Lambda's doors: what functions/*/app.py ask for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from farebox.adapters.secrets import resolver
from farebox.bootstrap import Secrets, Services, StorePlace, billing_app, build, jobs, keys_app, relay_app, settings_of
from farebox.http.asgi import App
from farebox.http.lambda_context import lambda_address, lambda_deadline_ms

SECRETS_OF = {
    "proxy": frozenset({"channel"}),
    "keys": frozenset({"admin", "stripe", "epay"}),
    "billing": frozenset[str](),
    "schedule": frozenset[str](),
}
"""Whose secrets each function resolves; its role may read no others."""


def _services_on_lambda(service: str) -> Services:
    from farebox.adapters.telemetry import PowertoolsTelemetry

    environ = os.environ
    config = Path(environ.get("FAREBOX_CONFIG") or "/opt/farebox.toml")
    resolve = resolver(environ)
    prefix = environ["FAREBOX_SECRETS_PREFIX"]
    region = environ["AWS_REGION"]
    return build(
        settings_of(environ, config if config.exists() else None, SECRETS_OF[service]),
        Secrets(bytes.fromhex(resolve(f"ssm:{prefix}/pepper")), bytes.fromhex(resolve(f"ssm:{prefix}/signing-key"))),
        StorePlace(
            endpoint=environ.get("AWS_ENDPOINT_URL_DYNAMODB") or f"https://dynamodb.{region}.amazonaws.com",
            region=region,
            table_prefix=environ["FAREBOX_TABLE_PREFIX"],
            local=False,
        ),
        environ=environ,
        encodings=Path(environ.get("TIKTOKEN_CACHE_DIR") or "/opt/tiktoken"),
        telemetry=PowertoolsTelemetry(service, metrics=True),
    )


def relay_app_from_environment() -> App:
    return relay_app(_services_on_lambda("proxy"), lambda_address, lambda_deadline_ms, freezes=True)


def keys_app_from_environment() -> App:
    return keys_app(_services_on_lambda("keys"))


def billing_app_from_environment() -> App:
    return billing_app(_services_on_lambda("billing"))


def schedule_job_from_environment() -> Callable[[Mapping[str, Any]], dict[str, int]]:
    """A function from the schedule's event to the job's counts."""
    services = _services_on_lambda("schedule")

    async def work(job: str) -> dict[str, int]:
        try:
            return await jobs(services)[job]()
        finally:
            await services.close()

    def run(event: Mapping[str, Any]) -> dict[str, int]:
        return asyncio.run(work(str(event["job"])))

    return run
