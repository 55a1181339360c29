"""What has come of a request so far: shared by the one that relays it and the one that concludes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from farebox.dialects.wire import Tap
from farebox.errors import FareboxError, UpstreamTimeout
from farebox.relay.attempts import Attempt
from farebox.relay.conclusion import Drawn
from farebox.relay.delivery import Delivery, RawHeaders
from farebox.relay.running import Running

ANSWERED, REFUSED, STOPPED = "answered", "refused", "stopped"
"""How an attempt ended that had no setback: with an answer, with the vendor's no, by our own will."""


@dataclass(slots=True)
class Relayed:
    """`tap` stands beside the attempt that counts. `failure` is for the caller, who had left if `gone`.

    `late`: our own time was up. `delivered`: the end of the stream is on its way; `ended`: it has been sent.
    `running`: where it can be cancelled.
    `attempts`: those that are over; `current`: the channel of the one that is not, and when it began (epoch ms).
    `sealed`: the conclusion, once it is on record. `body`, `headers`: a plain answer, whole and not sent yet.
    """

    tap: Tap
    delivery: Delivery
    attempts: list[Attempt] = field(default_factory=list)
    current: tuple[str, int] | None = None
    finished: bool = False
    refused: bool = False
    gone: bool = False
    late: bool = False
    delivered: bool = False
    ended: bool = False
    running: Running | None = None
    sealed: Drawn | None = None
    failure: FareboxError | None = None
    body: bytes | None = None
    headers: RawHeaders = field(default_factory=list)

    def attempts_at(self, now_ms: int) -> list[Attempt]:
        """All attempts, the one that is not over as it stands."""
        if self.current is None:
            return self.attempts
        channel, began_ms = self.current
        return [*self.attempts, Attempt(channel, ANSWERED if self.finished else STOPPED, now_ms - began_ms)]

    def break_off(self, failure: FareboxError) -> None:
        """It goes no further. What has had its end keeps it; what has not must not look as if it had."""
        if not self.ended:
            self.finished, self.late = False, isinstance(failure, UpstreamTimeout)
            self.failure = failure

    def over(self, result: str, now_ms: int) -> None:
        """The current attempt has ended like this."""
        if self.current is not None:
            channel, began_ms = self.current
            self.attempts.append(Attempt(channel, result, now_ms - began_ms))
            self.current = None

    @property
    def started(self) -> bool:
        """Whether the caller has had a status."""
        return self.delivery.started

    @property
    def cancelled(self) -> bool:
        """Its owner stopped it before its end was sent."""
        return self.running is not None and self.running.cancelled and not self.delivered
