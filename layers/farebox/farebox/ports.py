"""What the core needs from outside, one screen. Adapters implement these; tests have fakes of the same names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from farebox.domain.accounts import Account, KeyChanges, KeyRecord, StoredReceipt
from farebox.domain.call_records import CallPage
from farebox.domain.codes import Code
from farebox.domain.idempotency import Claim
from farebox.domain.keys import ApiKey
from farebox.domain.orders import Fact, Order
from farebox.domain.quota import Unit
from farebox.domain.spans import Span
from farebox.domain.uploads import Upload


class Clock(Protocol):
    def now_ms(self) -> int:
        """The time, epoch ms UTC."""


class Randomness(Protocol):
    def token(self, length: int) -> bytes:
        """`length` bytes that nobody can guess."""

    def below(self, limit: int) -> int:
        """A whole number in [0, limit): for weights and jitter, not for secrets."""


class Tokenizer(Protocol):
    def count(self, encoding: str, text: str) -> int:
        """How many tokens `text` is in `encoding`. Special tokens in it are ordinary text."""


class AudioMeter(Protocol):
    def duration_ms(self, data: bytes | memoryview, filename: str, content_type: str) -> int | None:
        """How long the audio plays, whole milliseconds, rounded up; None where that cannot be told."""


class Signer(Protocol):
    key_id: str

    def sign(self, message: bytes) -> bytes: ...


class Telemetry(Protocol):
    """Numbers and names from an allow-list; never text, addresses or keys."""

    def relayed(self, facts: Mapping[str, str | int]) -> None: ...

    def trouble(self, what: str, facts: Mapping[str, str | int]) -> None: ...


@dataclass(frozen=True, slots=True)
class Admission:
    """All that the store needs to let one request in, in one round trip.

    `hold_nano` is the most that it can cost (0 on a free key), `units` the daily counters that it takes (none on a
    paid key), `expires_ms` when the hold lapses if nobody settles it. `networks` is the store's own affair: the
    list that it held `address` against. `claim`: what the caller's idempotency key stands for, if there is one.
    """

    request_id: str
    key: ApiKey
    digest: bytes
    model: str
    hold_nano: int
    units: tuple[Unit, ...]
    now_ms: int
    expires_ms: int
    in_flight_max: int
    address: str
    stream: bool = False
    networks: tuple[str, ...] = ()
    claim: Claim | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """The request is in. `expired` are other holds of the account that were found lapsed.

    `attempt` tells the hold apart from one that a delayed copy of the same write may place after the settlement.
    """

    account: str
    key_id: str
    expired: tuple[str, ...] = ()
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """The terminal word on one request: its receipt, its cost, and whether its daily units come back.

    `attempt`: the grant's; None where no grant is known, then it ends whichever hold is there.
    """

    request_id: str
    account: str
    key_number: str
    hold_nano: int
    cost_nano: int
    units_back: tuple[Unit, ...]
    receipt: bytes
    signature: bytes
    signer_key_id: str
    at_ms: int
    attempt: int | None = None


class Journal(Protocol):
    """What this process has concluded and the store may not know yet: it outlives the process, where it can."""

    def append(self, settlement: Settlement) -> None:
        """On record when it returns."""

    def forget(self, request_id: str) -> None:
        """The store knows."""


class Store(Protocol):
    """The hot path's store. Every verb is atomic, idempotent by request id, and decided by conditions in the store."""

    async def admit(self, admission: Admission) -> Grant:
        """Authenticates, limits, counts and holds.

        Raises InvalidApiKey, ModelNotAllowed, AddressNotAllowed, AccountFrozen, InsufficientBalance,
        DailyQuotaExceeded, TooManyInFlight, Conflict, AlreadyRunning, AlreadyCompleted, StoreUnavailable.
        """

    async def abandon(self, admission: Admission, settlement: Settlement) -> None:
        """Settles a request that may never have been admitted, if the key behind it is a real one."""

    async def settle(self, settlement: Settlement) -> bool:
        """Writes the ledger row, then the wallet. False if another terminal word had been written before."""

    async def counts(self, units: tuple[Unit, ...]) -> list[Mapping[str, int]]:
        """Each unit's counter, field → count."""

    async def expire(self, account: str, now_ms: int) -> int:
        """Ends the account's lapsed holds, and lets what came back pay its debt; how many holds."""

    async def mark_cancelled(self, account: str, request_id: str) -> None:
        """Marks a running stream as cancelled by its owner. Raises NotFound."""

    async def cancelled(self, account: str) -> tuple[str, ...]:
        """The account's running requests that are marked."""


class Accounts(Protocol):
    """Accounts off the hot path. Every write is conditional; doing one twice is doing it once."""

    async def get(self, account: str) -> Account:
        """Raises NotFound."""

    async def create(self, key: ApiKey, digest: bytes, record: KeyRecord, *, credit_nano: int, at_ms: int) -> None:
        """A new account with its first key and credit."""

    async def add_key(self, key: ApiKey, digest: bytes, record: KeyRecord) -> None:
        """Raises NotFound."""

    async def key(self, account: str, number: str) -> KeyRecord:
        """Raises NotFound."""

    async def change_key(self, account: str, number: str, wanted: KeyChanges) -> KeyRecord:
        """Raises NotFound."""

    async def revoke(self, account: str, number: str) -> None:
        """Raises NotFound."""

    async def credit(self, account: str, amount_nano: int, *, reason: str, credit_id: str, at_ms: int) -> bool:
        """Once per `credit_id`; False if it had been done. A debt is paid first. Raises NotFound, Conflict."""

    async def receipt(self, account: str, request_id: str) -> StoredReceipt:
        """Raises NotFound."""

    async def entries(self, account: str) -> list[tuple[str, int]]:
        """The account's ledger: (entry id, amount in nano-CA)."""

    async def awaits_its_row(self, account: str, request_id: str, attempt: int | None) -> bool:
        """Whether the hold of `attempt` is yet to be ended by the row that is written; a ghost is not."""

    async def ids(self) -> list[str]:
        """Every account's id."""

    async def ready(self) -> None:
        """Touches the store. Raises StoreUnavailable."""


class Codes(Protocol):
    """Redeem codes. A code is one credit, on one account, whoever comes how often and at the same time."""

    async def add(self, codes: Sequence[Code], at_ms: int) -> None:
        """New codes."""

    async def redeem(self, code_id: str, account: str, at_ms: int) -> int:
        """Its worth (nano-CA), credited now or before to this very account. Raises InvalidCode, NotFound."""


class Orders(Protocol):
    """What was asked to be paid, and what became of it. Facts are booked once, in whatever order they come."""

    async def open(self, order: Order) -> None:
        """A new order."""

    async def opened(self, order_id: str, session: str) -> None:
        """Where it is paid, as the provider names it."""

    async def book(self, fact: Fact, at_ms: int) -> Order:
        """The order with this fact, and the account with what follows from it. Raises Mismatch."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A provider's request to us, as it came. Header names in lower case; `form`: query or body of a form."""

    headers: Mapping[str, str]
    body: bytes
    form: bytes


@dataclass(frozen=True, slots=True)
class Places:
    """Where a payer comes back to, and where the provider tells us about it. URLs."""

    back: str
    notify: str


class PaymentProvider(Protocol):
    """One way to pay. `acknowledgement`: what it wants to hear to a notice; anything else is sent again."""

    name: str
    currency: str
    mode: str
    ca_per_unit_nano: int
    acknowledgement: tuple[bytes, str]

    def ready(self) -> bool:
        """Whether it has all that it needs, the secret that its notices are proved with above all."""

    async def checkout(self, order: Order, places: Places) -> tuple[str, str]:
        """(its name for the payment page, that page's URL). Raises InvalidRequest, PaymentUnavailable."""

    async def read(self, notice: Notice) -> Fact | None:
        """What a proven notice says of an order of ours, None if nothing. Raises InvalidRequest, PaymentUnavailable."""


class Tries(Protocol):
    """Limits on what may be tried so often an hour."""

    async def check(self, units: tuple[Unit, ...], now_ms: int) -> None:
        """Takes nothing. Raises TooMany where one is used up."""

    async def take(self, units: tuple[Unit, ...], now_ms: int) -> None:
        """One of each or none. Raises TooMany."""


class CallLog(Protocol):
    """What was called, as the ledger has it."""

    def pages(self, account: str, key_number: str | None, span: Span, rows: int) -> AsyncIterator[CallPage]:
        """The account's calls in the span, of one key or of all, newest first; `rows`: how many to read at first.

        A page may be empty and yet not the last one. Raises StoreUnavailable.
        """


class Uploads(Protocol):
    """Files that come apart from the request that uses them. `name`: see domain.uploads.object_name."""

    async def presign(self, name: str, upload: Upload, expires_s: int, origin: str) -> tuple[str, dict[str, str]]:
        """The URL to which to PUT exactly `upload.size` bytes until `expires_s` (epoch seconds), and the headers that
        must come with them. `origin`: how the caller reaches this service. Raises StoreUnavailable.
        """

    async def receive(self, name: str, query: bytes, length: int | None, pieces: AsyncIterator[bytes]) -> None:
        """A PUT that came to this service, `length` bytes long as far as it says. A repeated one replaces the first.

        Raises NotFound where they go elsewhere; Forbidden, InvalidRequest, TooMany.
        """

    async def fetch(self, name: str, size_max: int) -> tuple[Upload, bytes] | None:
        """The file; None where there is none. Raises TooMuch if it is longer than `size_max`, StoreUnavailable."""

    async def delete(self, name: str) -> None:
        """Done also where there is none. Raises StoreUnavailable."""

    async def sweep(self) -> int:
        """Removes what has expired, where nobody else does; how many."""


class Answer(Protocol):
    """An upstream's answer; its body has not been read yet."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises UpstreamCut or UpstreamStalled (see relay/upstream_errors)."""

    async def body(self, limit_bytes: int) -> bytes:
        """The whole body; same errors."""


class Upstream(Protocol):
    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> AbstractAsyncContextManager[Answer]:
        """Sends a request. Raises Unreachable before anything was answered, Stalled on silence."""


class Caller(Protocol):
    """The other end: where a reply goes. Sending to a caller who has left is not an error."""

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None: ...

    async def send(self, data: bytes) -> None: ...

    async def finish(self) -> None: ...

    async def is_gone(self) -> bool: ...
