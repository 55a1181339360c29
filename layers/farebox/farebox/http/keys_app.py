"""The keys function: the admin's calls on keys, accounts and codes; and what brings money in."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Response
from pydantic import AwareDatetime, Field, field_validator

from farebox.dialects.ask import refuse
from farebox.domain import keys, money
from farebox.domain.accounts import NEVER_MS, Account, KeyChanges, KeyRecord
from farebox.domain.catalog import Catalog
from farebox.errors import NotFound
from farebox.http.bodies import Closed, amount_of
from farebox.http.guard import admin_only, json_response, new_app
from farebox.ports import Accounts, Clock, Randomness
from farebox.relay.settlements import Settlements
from farebox.service.audit import audit
from farebox.service.codes import CodeDesk
from farebox.service.issue_key import KeyIssuer, KeyWish

NAME_CHARS_MAX = 100
Jobs = Mapping[str, Callable[[], Awaitable[dict[str, int]]]]
LIST_MAX = 100
CODES_MAX = 1000


class KeyLists(Closed):
    """What a key may be limited to; null and [] mean no limit."""

    models: Annotated[list[str], Field(max_length=LIST_MAX)] | None = None
    ip_allow: Annotated[list[str], Field(max_length=LIST_MAX)] | None = None
    expires_at: Annotated[AwareDatetime, Field(strict=False)] | None = None

    @field_validator("ip_allow")
    @classmethod
    def networks(cls, value: list[str] | None) -> list[str] | None:
        return [str(ipaddress.ip_network(each, strict=False)) for each in value or ()] or value


class NewKey(KeyLists):
    kind: Literal["free", "paid"]
    credit: str | None = None
    account: str | None = None
    name: Annotated[str, Field(max_length=NAME_CHARS_MAX)] | None = ""
    limits: None = None


class KeyChange(KeyLists):
    name: Annotated[str, Field(max_length=NAME_CHARS_MAX)] | None = None


class Credit(Closed):
    amount: str
    reason: Annotated[str, Field(max_length=200)] = ""
    idempotency_key: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]


class NewCodes(Closed):
    count: Annotated[int, Field(ge=1, le=CODES_MAX)] = 1
    value: str
    expires_at: Annotated[AwareDatetime, Field(strict=False)] | None = None


def keys_app(
    accounts: Accounts,
    issuer: KeyIssuer,
    catalog: Catalog,
    settlements: Settlements,
    jobs: Jobs,
    *,
    codes: CodeDesk,
    routes: APIRouter,
    clock: Clock,
    random: Randomness,
    admin_token: str | None,
) -> FastAPI:
    """The application. Every route here is the admin's; `routes` are anybody's."""
    app = new_app("Farebox keys", clock, random)
    app.router.route_class = admin_only(admin_token)
    _add_keys(app, accounts, issuer, catalog)
    _add_accounts(app, accounts, settlements, clock)
    _add_codes(app, codes)
    _add_jobs(app, accounts, settlements, jobs, clock)
    app.include_router(routes)
    return app


def _add_keys(app: FastAPI, accounts: Accounts, issuer: KeyIssuer, catalog: Catalog) -> None:
    @app.post("/admin/v1/keys")
    async def create_key(new: NewKey) -> Response:
        _check_models(new.models, catalog)
        key = await issuer.issue(_wish_of(new))
        account = await accounts.get(key.account)
        return json_response({**_issued(key), "balance": money.format_ca(account.avail_nano)}, 201)

    @app.get("/admin/v1/keys/{key_id}")
    async def show_key(key_id: str) -> Response:
        return json_response(key_view(await accounts.key(*_parts(key_id))))

    @app.patch("/admin/v1/keys/{key_id}")
    async def change_key(key_id: str, change: KeyChange) -> Response:
        _check_models(change.models, catalog)
        return json_response(key_view(await accounts.change_key(*_parts(key_id), _changes_of(change))))

    @app.delete("/admin/v1/keys/{key_id}")
    async def revoke_key(key_id: str) -> Response:
        account, number = _parts(key_id)
        await accounts.revoke(account, number)
        return json_response(key_view(await accounts.key(account, number)))


def _add_accounts(app: FastAPI, accounts: Accounts, settlements: Settlements, clock: Clock) -> None:
    @app.get("/admin/v1/accounts/{account}")
    async def show_account(account: str) -> Response:
        _check_account(account)
        await settlements.settled(account)
        return json_response(account_view(await accounts.get(account)))

    @app.post("/admin/v1/accounts/{account}/credit")
    async def credit_account(account: str, credit: Credit) -> Response:
        _check_account(account)
        await accounts.credit(
            account,
            amount_of(credit.amount, "amount"),
            reason=credit.reason,
            credit_id=f"crd_adm_{credit.idempotency_key}",
            at_ms=clock.now_ms(),
        )
        return json_response(account_view(await accounts.get(account)))


def _add_codes(app: FastAPI, codes: CodeDesk) -> None:
    @app.post("/admin/v1/codes")
    async def make_codes(new: NewCodes) -> Response:
        made = await codes.make(new.count, amount_of(new.value, "value"), _expiry_ms(new.expires_at))
        return json_response({"codes": made}, 201)


def _add_jobs(app: FastAPI, accounts: Accounts, settlements: Settlements, jobs: Jobs, clock: Clock) -> None:
    @app.post("/admin/v1/schedule/{job}")
    async def run_job(job: str) -> Response:
        if job not in jobs:
            raise NotFound
        await settlements.settled()
        return json_response(await jobs[job]())

    @app.get("/admin/v1/audit")
    async def run_audit() -> Response:
        await settlements.settled()
        return json_response((await audit(accounts, clock)).document())


def key_view(record: KeyRecord) -> dict[str, Any]:
    """A key's record as the admin sees it: never the key, never its digest."""
    return {
        "id": record.id,
        "account": record.account,
        "kind": record.kind,
        "last4": record.last4,
        "status": record.status,
        "name": record.name,
        "models": list(record.models) or None,
        "ip_allow": list(record.networks) or None,
        "expires_at": None if record.expires_ms >= NEVER_MS else iso_time(record.expires_ms),
        "created_at": iso_time(record.created_ms),
        "limits": None,
    }


def account_view(account: Account) -> dict[str, Any]:
    """Money as decimal strings in CA; balance = available + held."""
    return {
        "account": account.id,
        "status": account.status,
        "balance": money.format_ca(account.avail_nano + account.held_nano),
        "available": money.format_ca(account.avail_nano),
        "held": money.format_ca(account.held_nano),
        "spent": money.format_ca(account.spent_nano),
        "debt": money.format_ca(account.debt_nano),
        "holds": [
            {
                "request_id": request_id,
                "amount": money.format_ca(hold.amount_nano),
                "expires_at": iso_time(hold.expires_ms),
            }
            for request_id, hold in account.holds.items()
        ],
        "keys": [key_view(record) for record in account.keys.values()],
    }


def iso_time(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _wish_of(new: NewKey) -> KeyWish:
    """Raises InvalidRequest for an amount that is none, NotFound for an account that cannot be."""
    if new.account is not None:
        _check_account(new.account)
    return KeyWish(
        kind=new.kind,
        account=new.account,
        credit_nano=amount_of(new.credit, "credit") if new.credit is not None else 0,
        name=new.name or "",
        models=tuple(new.models or ()),
        networks=tuple(new.ip_allow or ()),
        expires_ms=_expiry_ms(new.expires_at),
    )


def _issued(key: keys.ApiKey) -> dict[str, str]:
    """The one answer that shows a key."""
    return {"id": key.id, "account": key.account, "key": key.text, "kind": key.kind, "last4": key.last4}


def _changes_of(change: KeyChange) -> KeyChanges:
    given = change.model_fields_set
    if not given:
        raise refuse("name", zh="没有要修改的内容", en="there is nothing to change")
    return KeyChanges(
        name=(change.name or "") if "name" in given else None,
        models=tuple(change.models or ()) if "models" in given else None,
        networks=tuple(change.ip_allow or ()) if "ip_allow" in given else None,
        expires_ms=_expiry_ms(change.expires_at) if "expires_at" in given else None,
    )


def _expiry_ms(expires_at: datetime | None) -> int:
    return NEVER_MS if expires_at is None else int(expires_at.timestamp() * 1000)


def _check_models(models: list[str] | None, catalog: Catalog) -> None:
    if any(catalog.get(model) is None for model in models or ()):
        raise refuse("models", zh="含有未知模型", en="it names an unknown model")


def _check_account(account: str) -> None:
    if not keys.is_account_id(account):
        raise NotFound


def _parts(key_id: str) -> tuple[str, str]:
    parts = keys.parse_key_id(key_id)
    if parts is None:
        raise NotFound
    return parts
