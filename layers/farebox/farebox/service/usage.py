"""What was used, computed from the ledger when somebody asks. A figure that is told is exact, or it is not told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import tzinfo

from farebox.domain.call_records import CallPage, CallRecord
from farebox.domain.model_pattern import Matches
from farebox.domain.spans import Grain, Span, namer, next_start_ms
from farebox.errors import InvalidRequest
from farebox.ports import CallLog, Clock


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one query may read: ledger rows, and for how long (Lambda ends a request after 30 s)."""

    rows: int = 100_000
    patience_ms: int = 20_000
    page_rows: int = 1_000


@dataclass(frozen=True, slots=True)
class Whose:
    """An account's calls, or only those of its key `key_number`."""

    account: str
    key_number: str | None = None


@dataclass(slots=True)
class Total:
    """Calls to which something came back, in one hour or day. `model` is empty where they are not told apart."""

    time: str
    model: str
    count: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano: int = 0

    def add(self, call: CallRecord) -> None:
        self.count += 1
        self.input_tokens += call.input_tokens
        self.output_tokens += call.output_tokens
        self.cost_nano += call.cost_nano


@dataclass(frozen=True, slots=True)
class Totals:
    """Oldest first. `complete_since_ms`: what was before could not be read within the bounds; None: nothing was."""

    rows: tuple[Total, ...]
    complete_since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Calls:
    """Newest first. `more`: there are older ones. `complete_since_ms`: what was before could not be read."""

    records: tuple[CallRecord, ...]
    more: bool
    complete_since_ms: int | None = None


class UsageQueries:
    """Reads newest first and stops at the bounds, so that what it cannot read is what is oldest."""

    def __init__(self, log: CallLog, clock: Clock, zone: tzinfo, bounds: Bounds | None = None) -> None:
        self._log = log
        self._clock = clock
        self.zone = zone
        self._bounds = bounds or Bounds()

    def now_ms(self) -> int:
        return self._clock.now_ms()

    async def totals(
        self,
        whose: Whose,
        span: Span,
        grain: Grain,
        matches: Matches,
        *,
        by_model: bool = False,
        rows_max: int | None = None,
    ) -> Totals:
        """Per hour or day, those without calls left out. `rows_max`: a bound below the usual one.

        Raises InvalidRequest where not even the newest hour or day can be read to its end.
        """
        name = namer(grain, self.zone)
        found: dict[tuple[str, str], Total] = {}
        reached_ms: int | None = None
        async for page in self._pages(whose, span, self._bounds.page_rows, rows_max or self._bounds.rows):
            for call in page.records:
                if call.usage and matches(call.model):
                    place = (name(call.at_ms), call.model if by_model else "")
                    found.setdefault(place, Total(*place)).add(call)
            reached_ms = page.reached_ms
        if reached_ms is None:
            return Totals(tuple(found[place] for place in sorted(found)))
        cut = name(reached_ms)  # of this hour or day not all is known: nothing of it is told
        since_ms = next_start_ms(reached_ms, grain, self.zone)
        if since_ms >= (span.until_ms or self.now_ms()):
            raise InvalidRequest(
                zh=f"最近一个时段内的调用超过单次查询上限 {self._bounds.rows} 条，请按小时查询或缩小范围。",
                en=f"The newest hour or day alone has more than the {self._bounds.rows} calls that one query reads;"
                " ask by the hour, or for less.",
            )
        return Totals(tuple(found[place] for place in sorted(found) if place[0] != cut), since_ms)

    async def calls(self, whose: Whose, span: Span, matches: Matches, *, skip: int, take: int) -> Calls:
        """`take` calls of the span after the newest `skip`, those to which nothing came back among them."""
        found: list[CallRecord] = []
        wanted = skip + take + 1
        page_rows = min(self._bounds.page_rows, wanted)
        reached_ms: int | None = None
        async for page in self._pages(whose, span, page_rows, self._bounds.rows):
            found += [call for call in page.records if matches(call.model)]
            reached_ms = page.reached_ms
            if len(found) >= wanted:
                return Calls(tuple(found[skip : skip + take]), more=True)
        return Calls(tuple(found[skip:]), more=False, complete_since_ms=None if reached_ms is None else reached_ms + 1)

    async def _pages(self, whose: Whose, span: Span, page_rows: int, rows_max: int) -> AsyncIterator[CallPage]:
        """Pages until the span ends, or the bounds are reached."""
        read, ends_ms = 0, self.now_ms() + self._bounds.patience_ms
        async for page in self._log.pages(whose.account, whose.key_number, span, min(page_rows, rows_max)):
            yield page
            read += page.read
            if read >= rows_max or self.now_ms() > ends_ms:
                return
