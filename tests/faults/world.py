"""One run: accounts, processes and callers around the real store, with what went wrong and what must hold after it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from farebox.adapters.audio_meter import AudioMeter
from farebox.adapters.dynamodb.accounts import DynamoDBAccounts
from farebox.adapters.dynamodb.store import DynamoDBStore
from farebox.adapters.dynamodb.tables import TTL
from farebox.adapters.dynamodb.values import Item, plain_item, s
from farebox.adapters.journal import FileJournal, NoJournal
from farebox.adapters.signer_ed25519 import verifies
from farebox.adapters.telemetry import NoTelemetry
from farebox.dialects.wires import WIRES
from farebox.domain import ids, keys
from farebox.domain.accounts import KeyRecord
from farebox.domain.keys import ApiKey
from farebox.domain.quota import FreeLimits
from farebox.domain.receipts import arithmetic_errors
from farebox.errors import FareboxError
from farebox.http.errors import openai_envelope
from farebox.ports import Settlement
from farebox.relay.call import Call, Limits
from farebox.relay.channels import Channel, Channels
from farebox.relay.conclusion import Conclusion
from farebox.relay.forward import Forwarder
from farebox.relay.gate import Gate
from farebox.relay.plan import Planner
from farebox.relay.relay_request import Relay
from farebox.relay.request import Request
from farebox.relay.running import Streams
from farebox.relay.settlements import Settlements
from farebox.service.audit import audit
from farebox.service.sweep import sweep
from tests.fakes.faulty_db import Crash, Fault, FaultyDB, Injector, Life, arrive
from tests.fakes.port_upstream import MemoryCaller, PortUpstream, Post, Script, UpstreamFault
from tests.fakes.service import SetClock
from tests.faults import operations
from tests.faults.lab import MINUTE_MS, NOON_MS, ZONE, Lab
from tests.faults.operations import Operation

LIFE_MS = 17 * MINUTE_MS
"""A hold's life with the default limits."""
CHAT = WIRES["chat.completions"]
ATTEMPTS_MAX = 4
"""Written down a second time, by hand."""
ADDRESS = "203.0.113.7"
UNIT_BACK = {"failed": True, "refused": True, "expired": False, "client_gone": False, "upstream_cut": False}
"""Written down a second time, by hand; completed and cancelled depend on whether content came."""
BROUGHT_NOTHING = frozenset({"failed", "refused", "expired", "cancelled"})

_request: ContextVar[str] = ContextVar("request")


class SetTo(SetClock):
    """A clock that stands still until somebody moves it."""

    def __init__(self) -> None:
        super().__init__()
        self.fixed_ms: int = NOON_MS

    def move(self, by_ms: int) -> None:
        self.fixed_ms += by_ms


@dataclass
class Asked:
    """One request: what it wanted, what its caller saw. `scripts`: one for each attempt, the last for all more."""

    request_id: str
    name: str
    key: ApiKey
    caller: MemoryCaller
    process: Process
    scripts: tuple[Script, ...]
    operation: Operation
    started_ms: int
    idempotency_key: str | None = None
    error: FareboxError | None = None


@dataclass
class Committed:
    """A hold that the store took, as it was asked for; `times`: how often it did so."""

    account: str
    amount_nano: int
    at_ms: int
    units: tuple[tuple[str, tuple[str, ...]], ...]
    times: int = 1


class LivingJournal:
    """A process's journal, the real one; the dead write nothing more into it."""

    def __init__(self, path: Path, life: Life) -> None:
        self._life = life
        self._file = FileJournal(path)
        self._file.open()

    def append(self, settlement: Settlement) -> None:
        self._life.check()
        self._file.append(settlement)

    def forget(self, request_id: str) -> None:
        self._life.check()
        self._file.forget(request_id)

    def close(self) -> None:
        self._file.close()


class Process:
    """One process: the relay's core, composed as bootstrap.build does it, over a store that goes wrong."""

    def __init__(self, world: World) -> None:
        lab = world.lab
        self.life = Life()
        self.db = FaultyDB(lab.db, world.injector, self.life)
        self.store = DynamoDBStore(self.db, lab.tables, signer=lab.signer, reset_at="00:00 Asia/Shanghai")  # type: ignore[arg-type]
        self.accounts = DynamoDBAccounts(self.db, lab.tables)  # type: ignore[arg-type]
        self.settlements = Settlements()
        self.telemetry = NoTelemetry()
        self.clock = world.clock
        limits = replace(world.limits, free=world.free_limits, settle_s=world.settle_s)
        routes = Channels(world.channels, lab.random, world.clock)
        journal = world.journal(self.life) if world.journals else NoJournal()
        conclusion = Conclusion(self.store, lab.signer, world.clock, lab.random, self.telemetry, limits, journal)
        gate = Gate(
            planner=Planner(lab.catalog, routes, lab.tokenizer, AudioMeter(), limits.free.input_tokens_max),
            store=self.store,
            clock=world.clock,
            settlements=self.settlements,
            conclusion=conclusion,
            limits=limits,
            zone=ZONE,
            pepper=lab.pepper,
        )
        upstream = PortUpstream(
            self.life,
            world.posts,
            world.upstream_fault,
            lambda: (_request.get(), world.next_script(_request.get())),
            world.look_for_the_hold,
            world.upstream_hits,
        )
        self.relay = Relay(
            gate=gate,
            conclusion=conclusion,
            forwarder=Forwarder(routes, upstream, world.clock, lab.random),
            store=self.store,
            clock=world.clock,
            telemetry=self.telemetry,
            settlements=self.settlements,
            streams=Streams(self.store),
            limits=limits,
            zone=ZONE,
        )

    async def sweep(self) -> None:
        await sweep(self.accounts, self.store, self.clock, self.telemetry)


class World:
    """`wrong`: what broke an invariant while it ran. Store faults and an upstream fault are set before it starts.

    `journals`: its processes keep one, as locally; without, as on Lambda. `overslept`: a request outlived its hold.
    """

    def __init__(
        self,
        lab: Lab,
        faults: dict[int, Fault] | None = None,
        upstream_fault: UpstreamFault | None = None,
        *,
        journals: bool = False,
    ) -> None:
        self.lab = lab
        self.clock = SetTo()
        self.injector = Injector(faults or {}, armed=False, on_freeze=self._freeze, on_write=self._after_write)
        self.upstream_fault = upstream_fault
        self.outage = Fault.OUTAGE in self.injector.faults.values()
        self.settle_s = 0.0 if self.outage else 30.0  # a store that stays away is given up at once, to save time
        self.upstream_hits: list[UpstreamFault] = []
        self.free_limits = FreeLimits()
        self.limits = Limits()
        self.channels: tuple[Channel, ...] = (operations.channel("script"),)
        self.journals = journals
        self.overslept, self._with_journals = False, journals
        self._journals: dict[Path, LivingJournal] = {}
        self.posts: list[Post] = []
        self.asked: dict[str, Asked] = {}
        self.committed: dict[str, Committed] = {}
        self.accounts: dict[str, str] = {}
        self.credited: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.afterwards: list[Callable[[], Awaitable[None]]] = []
        self._clean = DynamoDBAccounts(lab.db, lab.tables)
        self._written: dict[tuple[str, str], Item] = {}

    # ── what scenarios say ──────────────────────────────────────────────────────────────────────────────────────

    def process(self) -> Process:
        return Process(self)

    def alive(self, process: Process) -> Process:
        """The process, or one that takes its place."""
        return self.process() if process.life.dead else process

    async def key(self, kind: str = "paid", credit_nano: int = 0) -> ApiKey:
        """A new account with one key, made without faults."""
        key, record = self.mint(kind)
        await self._clean.create(
            key, key.digest(self.lab.pepper), record, credit_nano=credit_nano, at_ms=self.clock.now_ms()
        )
        self.credited[key.account] += credit_nano
        return key

    def mint(self, kind: str) -> tuple[ApiKey, KeyRecord]:
        random = self.lab.random.token
        key = keys.mint(kind, keys.mint_account(random), random)
        self.accounts[key.account] = kind
        facts = {"account": key.account, "number": key.number, "kind": kind, "last4": key.last4}
        return key, KeyRecord(id=key.id, created_ms=self.clock.now_ms(), **facts)

    async def ask(
        self,
        process: Process,
        key: ApiKey,
        *scripts: Script,
        name: str = "it",
        idempotency_key: str | None = None,
        gone_after: int | None = None,
        max_tokens: int | None = 100,
        operation: Operation = operations.CHAT,
        on_asked: Callable[[MemoryCaller], None] | None = None,
    ) -> Asked:
        """One request; returns when it is over, however it ended, and its settlement too. A script for each attempt."""
        request_id = ids.request_id(self.clock.now_ms(), self.lab.random.token)
        last = operation.last or scripts[-1].chunks[-1]
        caller = MemoryCaller(process.life, gone_after, ends=operation.ends, last=last)
        if on_asked is not None:
            caller.on_asked = lambda: on_asked(caller)
        asked = Asked(request_id, name, key, caller, process, scripts, operation, self.clock.now_ms(), idempotency_key)
        self.asked[request_id] = asked
        request = _request_of(operation, name, any(each.stream for each in scripts), max_tokens)
        call = Call(request_id, request, key, ADDRESS, openai_envelope, None, idempotency_key)

        async def handled() -> None:
            _request.set(request_id)
            try:
                await process.relay.handle(call, caller)
            except FareboxError as error:
                asked.error = error
            except Crash:
                pass
            await process.settlements.settled()

        await asyncio.create_task(handled())
        return asked

    def next_script(self, request_id: str) -> Script:
        """What the request's next attempt gets."""
        scripts = self.asked[request_id].scripts
        made = len(self._posts_of(request_id))
        return scripts[min(made, len(scripts) - 1)]

    def _posts_of(self, request_id: str) -> list[Post]:
        return [post for post in self.posts if post.request_id == request_id]

    async def apart(self, work: Awaitable[Any]) -> bool:
        """Another process's work, whose trouble is its own. Whether it was done."""
        try:
            await work
        except (FareboxError, Crash):
            return False
        return True

    async def arrive_twins(self) -> None:
        """First copies of requests, whose second copies were answered long ago, arrive."""
        await arrive(self.lab.db, self.injector, self.injector.twins)

    # ── how a run ends ──────────────────────────────────────────────────────────────────────────────────────────

    async def recover(self) -> None:
        """The store is back; what was under way arrives; everything is swept twice, by new processes."""
        self.injector.away = False
        self.injector.armed = False
        await self._play_the_journals()
        await self._look_for_stuck_holds()
        await self.arrive_twins()
        await self._sweep_twice()
        if self.afterwards or self.injector.late:
            for work in self.afterwards:
                await work()
            await arrive(self.lab.db, self.injector, self.injector.late)
            await self._sweep_twice()

    async def violations(self) -> list[str]:
        """All that is wrong with the run, by every invariant that can be judged when it is over."""
        found = list(self.wrong)
        seen = await audit(self._clean, self.clock)
        found += [f"I1 audit: {each}" for each in seen.violations]
        if seen.document()["difference_nano"]:
            found.append("I1 audit: a difference")
        if seen.open_holds or seen.stale_holds:
            found.append(f"I8 audit: {seen.open_holds} holds are left")
        used: dict[str, Counter[str]] = defaultdict(Counter)
        for account in self.accounts:
            found += await self._wrong_with(account, used)
        found += await self._wrong_with_counters(used)
        found += self._wrong_with_answers()
        return found

    async def forget(self) -> None:
        """Takes the accounts away, so that the next run's sweep and audit see only their own."""
        for account in self.accounts:
            await self.lab.db.call("DeleteItem", {"TableName": self.lab.tables.accounts, "Key": {"acct": s(account)}})
        for counter in {unit for held in self.committed.values() for unit, _ in held.units}:
            await self.lab.db.call("DeleteItem", {"TableName": self.lab.tables.counters, "Key": {"id": s(counter)}})

    async def rows(self, account: str) -> dict[str, dict[str, Any]]:
        """The account's ledger as it lies there."""
        request = {
            "TableName": self.lab.tables.ledger,
            "KeyConditionExpression": "acct = :a",
            "ExpressionAttributeValues": {":a": s(account)},
            "ConsistentRead": True,
        }
        found = [plain_item(item) for item in (await self.lab.db.call("Query", request))["Items"]]
        return {row["id"]: row for row in found}

    async def item(self, account: str) -> dict[str, Any]:
        request = {"TableName": self.lab.tables.accounts, "Key": {"acct": s(account)}, "ConsistentRead": True}
        return plain_item((await self.lab.db.call("GetItem", request)).get("Item") or {})

    async def counter(self, counter: str) -> dict[str, int]:
        request = {"TableName": self.lab.tables.counters, "Key": {"id": s(counter)}, "ConsistentRead": True}
        found = plain_item((await self.lab.db.call("GetItem", request)).get("Item") or {})
        return {name: value for name, value in found.items() if name not in ("id", TTL)}

    # ── while it runs ───────────────────────────────────────────────────────────────────────────────────────────

    async def look_for_the_hold(self, request_id: str) -> None:
        """I4: what is sent upstream stands in the store at that moment, or was ended there as lapsed."""
        asked = self.asked[request_id]
        holds = (await self.item(asked.key.account)).get("holds", {})
        if request_id not in holds:
            row = (await self.rows(asked.key.account)).get(request_id)
            if row is None or json.loads(row["receipt"])["outcome"] != "expired":
                self.wrong.append(f"I4 {asked.name}: sent upstream without a hold")
            return
        for unit in holds[request_id].get("u", ()):
            counts = await self.counter(unit["c"])
            if any(counts.get(name, 0) < 1 for name in unit["f"]):
                self.wrong.append(f"I4 {asked.name}: sent upstream without a unit")

    def journal(self, life: Life) -> LivingJournal:
        path = self.lab.journals / str(len(self._journals))
        path.unlink(missing_ok=True)
        self._journals[path] = LivingJournal(path, life)
        return self._journals[path]

    async def _play_the_journals(self) -> None:
        """The next start, as `farebox serve` does it."""
        for path, kept in self._journals.items():
            kept.close()
            journal = FileJournal(path)
            for settlement in journal.open():
                await self.process_without_journal().store.settle(settlement)
                journal.forget(settlement.request_id)
            journal.close()
        self.journals = False

    def process_without_journal(self) -> Process:
        self.journals, was = False, self.journals
        made = Process(self)
        self.journals = was
        return made

    async def _freeze(self) -> None:
        """A process stands still for longer than holds live; the schedule sweeps meanwhile."""
        self.overslept = True
        self.clock.move(LIFE_MS + MINUTE_MS)
        was, self.injector.armed = self.injector.armed, False
        await self.process_without_journal().sweep()
        self.injector.armed = was

    async def _after_write(self, operation: str, request: dict[str, Any]) -> None:
        """Notes holds as they are committed; I2 in every committed state."""
        actions = [request] if operation == "UpdateItem" else []
        for action in request.get("TransactItems", ()):
            actions += action.values()
        for update in actions:
            self._note(update)
        for row in self._rows_put(operation, request):
            key = (row["acct"]["S"], row["id"]["S"])
            if self._written.setdefault(key, row) is not row:
                self.wrong.append(f"I3 the ledger's {key[1]} is written twice")
        touched = {each["Key"]["acct"]["S"] for each in actions if "acct" in each.get("Key", ())}
        for account in touched:
            self._wrong_now(await self.item(account))

    def _rows_put(self, operation: str, request: dict[str, Any]) -> list[Item]:
        puts = [request] if operation == "PutItem" else []
        puts += [action["Put"] for action in request.get("TransactItems", ()) if "Put" in action]
        return [put["Item"] for put in puts if put["TableName"] == self.lab.tables.ledger]

    def _note(self, update: dict[str, Any]) -> None:
        values = update.get("ExpressionAttributeValues", {})
        if ":new" not in values or "holds.#r = :new" not in update.get("UpdateExpression", ""):
            return
        request_id = update["ExpressionAttributeNames"]["#r"]
        if request_id in self.committed:
            self.committed[request_id].times += 1
            return
        hold = plain_item(values[":new"]["M"])
        units = tuple((unit["c"], tuple(unit["f"])) for unit in hold.get("u", ()))
        account = update["Key"]["acct"]["S"]
        self.committed[request_id] = Committed(account, hold["a"], hold["x"] - LIFE_MS, units)

    def _wrong_now(self, item: dict[str, Any]) -> None:
        if not item:
            return
        held = sum(hold["a"] for hold in item["holds"].values())
        for name in ("avail", "held", "spent", "credited"):
            if item[name] < 0:
                self.wrong.append(f"I2 {name} is {item[name]}")
        if item["held"] != held:
            self.wrong.append(f"I2 held is {item['held']}, the holds are {held}")
        if item["avail"] + item["held"] != item["credited"] - item["spent"]:
            self.wrong.append("I1 avail + held is not credited - spent")

    # ── when it is over ─────────────────────────────────────────────────────────────────────────────────────────

    async def _sweep_twice(self) -> None:
        self.clock.move(LIFE_MS + MINUTE_MS)
        for _ in range(2):
            await self.process().sweep()

    async def _look_for_stuck_holds(self) -> None:
        """Whoever lives and has a store ends what it began, without any sweep."""
        if self.outage:
            return
        for asked in self.asked.values():
            if asked.process.life.dead:
                continue
            hold = (await self.item(asked.key.account)).get("holds", {}).get(asked.request_id)
            if hold is not None:
                self.wrong.append(f"I8 {asked.name}: its process lives, its hold is left to the sweep")

    async def _wrong_with(self, account: str, used: dict[str, Counter[str]]) -> list[str]:
        """I1, I3, I6, I8, I9 of one account, from its raw items. Adds to `used` what its requests kept."""
        item, rows = await self.item(account), await self.rows(account)
        found = []
        if not item:
            return [] if not rows else ["I1 rows without an account"]
        credited = sum(row["amount"] for row in rows.values() if row["kind"] == "credit")
        costs = -sum(row["amount"] for row in rows.values() if row["kind"] == "usage")
        if item["avail"] + item["held"] != credited - costs:
            found.append(f"I1 wallet {item['avail'] + item['held']}, ledger {credited - costs}")
        if item["credited"] != credited or item["spent"] != costs:
            found.append(f"I1 credited {item['credited']} of {credited}, spent {item['spent']} of {costs}")
        if self.credited[account] != credited:
            found.append(f"I7 credits {credited}, acknowledged {self.credited[account]}")
        if item["holds"]:
            found.append(f"I8 holds are left: {sorted(item['holds'])}")
        sent = {post.request_id for post in self.posts}
        for request_id, held in self.committed.items():
            if held.account == account and request_id not in rows:
                found.append("I3 a hold without a terminal word")
        for request_id, row in rows.items():
            if row["kind"] == "usage":
                found += self._wrong_with_row(request_id, row, used, sent)
        return found + self._wrong_with_claims(rows)

    def _wrong_with_row(
        self, request_id: str, row: dict[str, Any], used: dict[str, Counter[str]], sent: set[str]
    ) -> list[str]:
        receipt = json.loads(row["receipt"])
        held = self.committed.get(request_id)
        asked = self.asked[request_id]
        outcome = receipt["outcome"]
        posts = self._posts_of(request_id)
        last = posts[-1] if posts else Post(request_id, asked.scripts[0])
        found = [f"receipt: {each}" for each in arithmetic_errors(receipt)]
        if not verifies(self.lab.signer.public_key, row["receipt"], row["sig"]):
            found.append("receipt: signature")
        if receipt["cost_nano"] != -row["amount"]:
            found.append("I3 the row's amount is not the receipt's cost")
        if held is None:
            return [*found, "I3 a cost without a hold"] if row["amount"] else found
        if self._with_journals and asked.caller.saw_the_last_byte and outcome == "expired" and not self.overslept:
            found.append("I3 the caller saw the end, the journal did not know")
        if -row["amount"] > held.amount_nano or receipt["hold_nano"] != held.amount_nano:
            found.append(f"I2 cost {-row['amount']} of a hold of {held.amount_nano}")
        if receipt["endpoint"] == "" and outcome == "failed" and request_id in sent:
            found.append("I3 'never sent', but it was")
        found += self._wrong_with_price(receipt, held, asked.operation.model)
        found += wrong_with_attempts(receipt, asked, posts)
        if last.given >= len(last.script.chunks) - last.script.stream:  # the usage came
            found += self._wrong_with_usage(receipt, asked, last.script)
        if held.units:
            wanted = UNIT_BACK.get(outcome)
            if wanted is not None and row["back"] is not wanted:
                found.append(f"I6 {outcome}: unit {'back' if row['back'] else 'kept'}")
            if outcome == "completed" and row["back"] is not (last.script.completion == 0):
                found.append(f"I6 completed: unit {'back' if row['back'] else 'kept'}")
            if not row["back"]:
                for counter, fields in held.units:
                    used[counter].update(fields)
        return found

    def _wrong_with_price(self, receipt: dict[str, Any], held: Committed, model: str) -> list[str]:
        """I9: the price of the moment in which the hold was made."""
        if not receipt["price_version"]:
            return ["I9 a cost without a price"] if receipt["cost_nano"] else []
        price = self.lab.catalog.models[model].price_at(held.at_ms)
        if receipt["price_version"] != price.version:
            return [f"I9 {receipt['price_version']} settled, {price.version} captured"]
        wrong = [line for line in receipt["arithmetic"] if line["price_nano"] != price.rates[line["unit"]]]
        return ["I9 another price in the arithmetic"] if wrong else []

    def _wrong_with_usage(self, receipt: dict[str, Any], asked: Asked, script: Script) -> list[str]:
        """What a whole answer reports is what is billed, to the nano; not what came of another attempt."""
        if receipt["outcome"] not in ("completed", "client_gone") or not script.completion:
            return []
        if self.accounts[asked.key.account] != "paid":
            return []
        rates = self.lab.catalog.models[asked.operation.model].price_at(asked.started_ms).rates
        cost = sum(count * rates[unit] for unit, count in script.units.items())
        owed = min(cost, receipt["hold_nano"])
        return [] if receipt["cost_nano"] == owed else [f"I3 {receipt['cost_nano']} billed, {owed} used"]

    def _wrong_with_claims(self, rows: dict[str, dict[str, Any]]) -> list[str]:
        """A body under one idempotency key brings something at most once."""
        brought: Counter[str] = Counter()
        for request_id, row in rows.items():
            asked = self.asked.get(request_id)
            if asked is None or asked.idempotency_key is None:
                continue
            receipt = json.loads(row["receipt"])
            brought[asked.idempotency_key] += receipt["outcome"] not in BROUGHT_NOTHING or receipt["cost_nano"] > 0
        return [f"F3 {times} answers under one idempotency key" for times in brought.values() if times > 1]

    async def _wrong_with_counters(self, used: dict[str, Counter[str]]) -> list[str]:
        """I5, I6: a counter is the number of requests whose unit was kept, within its limit."""
        found = []
        counters = {counter for held in self.committed.values() for counter, _ in held.units}
        for counter in sorted(counters | set(used)):
            counts = await self.counter(counter)
            for name in set(counts) | set(used[counter]):
                if counts.get(name, 0) != used[counter][name]:
                    found.append(
                        f"I6 {counter.split('#')[0]} {name}: {counts.get(name, 0)}, kept {used[counter][name]}"
                    )
                if not 0 <= counts.get(name, 0) <= self._limit(counter, name):
                    found.append(f"I5 {counter.split('#')[0]} {name}: {counts.get(name, 0)}")
        return found

    def _limit(self, counter: str, name: str) -> int:
        if name.startswith("group:"):
            return self.free_limits.group_limit(name.removeprefix("group:"))
        return (
            self.free_limits.requests_per_address
            if counter.startswith("address")
            else self.free_limits.requests_per_key
        )

    def _wrong_with_answers(self) -> list[str]:
        """I11; I13: what reaches a caller is one upstream's."""
        found = []
        for asked in self.asked.values():
            posts = self._posts_of(asked.request_id)
            if posts and asked.caller.saw_an_end:
                given, script = posts[-1].given, posts[-1].script
                if given < len(script.chunks) - script.tail or (script.breaks is not None and script.stream):
                    found.append(f"I11 {asked.name}: a broken answer looks complete")
            if asked.caller.heard_more:
                found.append(f"I11 {asked.name}: something follows the end")
            heard = [post.script for post in posts if _offered(asked.caller, post.script)]
            if any(script is not heard[0] for script in heard):
                found.append(f"I13 {asked.name}: two upstreams in one answer")
            if len(posts) > ATTEMPTS_MAX:
                found.append(f"I14 {asked.name}: {len(posts)} attempts")
        return found


def wrong_with_attempts(receipt: dict[str, Any], asked: Asked, posts: list[Post]) -> list[str]:
    """I12, I14: nothing is billed for what never reached the caller; the receipt tells of every attempt, in order."""
    outcome = receipt["outcome"]
    if outcome == "expired" or not receipt["endpoint"]:
        return []
    found = []
    last = posts[-1].script if posts else None
    silent = last is not None and not _offered(asked.caller, last)
    # What is cancelled is heard out for its usage; what its process died of was on record before.
    if receipt["cost_nano"] and silent and outcome != "cancelled" and not asked.process.life.dead:
        found.append(f"I12 {outcome}: billed without content")
    told = [(attempt["channel"], attempt["result"]) for attempt in receipt["attempts"]]
    if [channel for channel, _ in told] != [post.channel for post in posts]:
        found.append(f"I14 the receipt's attempts are {told}, those made {[post.channel for post in posts]}")
    if any(result in ("answered", "refused", "stopped") for _, result in told[:-1]):
        found.append(f"I14 somebody was asked after {told[:-1]}")
    final = told[-1][1] if told else "nobody"
    wanted = ENDS_OF.get(outcome)
    if wanted is not None and (final in wanted) is (outcome in NOT_THESE):
        found.append(f"I14 {outcome}: the last attempt {final}")
    return found


ENDS_OF = {
    "completed": ("answered", "empty"),
    "client_gone": ("answered",),
    "refused": ("refused",),
    "failed": ("answered", "refused"),
    "upstream_cut": ("answered", "refused", "empty"),
}
"""Outcome → how its last attempt ends; of NOT_THESE how it does not."""
NOT_THESE = frozenset({"failed", "upstream_cut"})


def _offered(caller: MemoryCaller, script: Script) -> bool:
    return any(word.encode() in caller.offered or word.encode("latin-1") in caller.offered for word in script.words)


def _request_of(operation: Operation, said: str, stream: bool, limit: int | None) -> Request:
    body = operation.body(said, limit)
    wire = CHAT if operation.wire == CHAT.name else WIRES[operation.wire]
    if operation.in_path:
        path = {"model": operation.model, "stream": stream, "json_array": operation.array}
        return Request(wire, json.dumps(body).encode(), **path)  # type: ignore[arg-type]
    return Request(wire, json.dumps({**body, "stream": True} if stream else body).encode())
