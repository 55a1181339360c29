"""Which of its errors Anthropic's official Python SDK raises at our address, and what is tried again."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from tests.fakes.addresses import addresses
from tests.fakes.anthropic_vendor import MODEL, TEXT_STREAM, event, message, said, start
from tests.fakes.service import Funded, RunningFarebox
from tests.fakes.upstream import Reset, ScriptedUpstream, Send, Step, WaitFor, json_answer, sse_answer

SECRET = "sk-ant-secret of org-17 at host-9.internal"
MESSAGES: Any = [{"role": "user", "content": "hi"}]
# The SDK knows when Anthropic takes a model away; the price list still has it.
pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")


@pytest.fixture
def key(vendors: RunningFarebox) -> Funded:
    return vendors.new_key(credit="100")


@pytest.fixture
def client(vendors: RunningFarebox, key: Funded) -> Iterator[Anthropic]:
    with Anthropic(api_key=key.text, base_url=vendors.url) as made:
        yield made


class Counted:
    """A client that counts what it really sends; a free key's address is its own."""

    def __init__(self, vendors: RunningFarebox, key: str) -> None:
        self.sent = 0
        self.client = Anthropic(
            api_key=key,
            base_url=vendors.url,
            default_headers={"x-forwarded-for": next(addresses)},
            http_client=anthropic.DefaultHttpxClient(event_hooks={"request": [self._count]}),
        )

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def once(self) -> Counted:
        """Itself, but nothing is sent twice."""
        self.client = self.client.with_options(max_retries=0)
        return self

    def ask(self, model: str = MODEL, **more: Any) -> Any:
        return self.client.messages.create(**{"model": model, "max_tokens": 10, "messages": MESSAGES, **more})

    def _count(self, _: object) -> None:
        self.sent += 1


def told(raised: anthropic.APIStatusError) -> dict[str, Any]:
    """The envelope's error; its shape is Anthropic's and our id is where the SDK looks for it."""
    assert str(raised.request_id).startswith("req_")
    body: Any = raised.body
    assert (body["type"], set(body["error"]) >= {"type", "message"}) == ("error", True)
    return dict(body["error"])


@pytest.mark.parametrize("text", ["sk-wrong", "sk-fb-p" + "0" * 54])
def test_a_wrong_key_raises_authentication_error(
    vendors: RunningFarebox, upstream: ScriptedUpstream, text: str
) -> None:
    with Counted(vendors, text) as counted, pytest.raises(anthropic.AuthenticationError) as raised:
        counted.ask()

    assert (told(raised.value)["type"], raised.value.type) == ("authentication_error", "authentication_error")
    assert (counted.sent, upstream.requests) == (1, [])


def test_an_empty_wallet_raises_payment_required(vendors: RunningFarebox, upstream: ScriptedUpstream) -> None:
    poor = vendors.new_key(credit="0.000000001")
    with Counted(vendors, poor.text) as counted, pytest.raises(anthropic.PaymentRequiredError) as raised:
        counted.ask()

    assert told(raised.value)["type"] == "billing_error"
    assert (counted.sent, upstream.requests) == (1, [])


def test_a_paid_model_on_a_free_key_raises_permission_denied(
    vendors: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    free = vendors.new_key("free", credit="0")
    with Counted(vendors, free.text) as counted, pytest.raises(anthropic.PermissionDeniedError) as raised:
        counted.ask()

    assert told(raised.value)["code"] == "model_not_allowed"
    assert counted.sent == 1


@pytest.mark.parametrize("model", ["no-such-model", "text-embedding-3-small"])
def test_an_unknown_model_raises_not_found(
    vendors: RunningFarebox, key: Funded, upstream: ScriptedUpstream, model: str
) -> None:
    with Counted(vendors, key.text) as counted, pytest.raises(anthropic.NotFoundError) as raised:
        counted.ask(model)

    assert told(raised.value)["type"] == "not_found_error"
    assert counted.sent == 1


def test_a_bad_parameter_raises_bad_request_and_names_it(
    vendors: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    with Counted(vendors, key.text) as counted, pytest.raises(anthropic.BadRequestError) as raised:
        counted.ask(max_tokens=0)

    assert (told(raised.value)["type"], told(raised.value)["param"]) == ("invalid_request_error", "max_tokens")
    assert upstream.requests == []


def test_a_body_too_large_raises_content_too_large(
    vendors: RunningFarebox, key: Funded, upstream: ScriptedUpstream
) -> None:
    with Counted(vendors, key.text) as counted, pytest.raises(anthropic.ContentTooLargeError) as raised:
        counted.ask(system="x" * (6 * 1024 * 1024))

    assert told(raised.value)["type"] == "request_too_large"
    assert counted.sent == 1


def test_a_used_up_day_raises_rate_limit_error_after_one_request(
    vendors: RunningFarebox, upstream: ScriptedUpstream
) -> None:
    free = vendors.new_key("free", credit="0")
    with Counted(vendors, free.text) as counted:
        for _ in range(5):
            counted.ask("gpt-4o")
        counted.sent = 0
        with pytest.raises(anthropic.RateLimitError) as raised:
            counted.ask("gpt-4o")

    assert told(raised.value)["code"] == "daily_quota_exceeded"
    assert counted.sent == 1


def error(status: int, kind: str) -> list[Step]:
    return json_answer({"type": "error", "error": {"type": kind, "message": SECRET}, "request_id": "req_up"}, status)


@pytest.mark.parametrize(
    ("status", "kind", "raises"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (401, "authentication_error", anthropic.InternalServerError),  # the operator's key is no fault of the caller's
        (403, "permission_error", anthropic.InternalServerError),
        (404, "not_found_error", anthropic.InternalServerError),
        (413, "request_too_large", anthropic.BadRequestError),
        (429, "rate_limit_error", anthropic.ServiceUnavailableError),
        (500, "api_error", anthropic.InternalServerError),
        (504, "timeout_error", anthropic.GatewayTimeoutError),
        (529, "overloaded_error", anthropic.ServiceUnavailableError),
    ],
)
def test_an_error_of_the_vendors_raises_its_class_without_its_words_and_costs_nothing(
    vendors: RunningFarebox,
    key: Funded,
    upstream: ScriptedUpstream,
    status: int,
    kind: str,
    raises: type[anthropic.APIStatusError],
) -> None:
    upstream.script = error(status, kind)
    with Counted(vendors, key.text) as counted, pytest.raises(raises) as raised:
        counted.once().ask()

    assert SECRET not in raised.value.response.text
    assert "req_up" not in raised.value.response.text
    assert told(raised.value)["message"]
    assert vendors.account(key.account).spent_nano == 0


@pytest.mark.parametrize(("status", "kind"), [(429, "rate_limit_error"), (529, "overloaded_error")])
def test_a_weakness_that_passes_is_the_relays_to_bear(
    vendors: RunningFarebox, key: Funded, upstream: ScriptedUpstream, status: int, kind: str
) -> None:
    answers: Iterator[Iterable[Step]] = iter([error(status, kind), json_answer(message())])
    upstream.on_request = lambda _: next(answers)
    with Counted(vendors, key.text) as counted:
        answer = counted.ask()

    assert answer.usage.output_tokens == 5
    assert (counted.sent, len(upstream.requests)) == (1, 2)
    assert len(vendors.receipts(key.account)) == 1


def test_a_stream_that_begins_with_an_error_is_tried_again(
    vendors: RunningFarebox, client: Anthropic, key: Funded, upstream: ScriptedUpstream
) -> None:
    overloaded = event("error", error={"type": "overloaded_error", "message": SECRET})
    answers: Iterator[Iterable[Step]] = iter([sse_answer([start(), overloaded]), sse_answer(TEXT_STREAM)])
    upstream.on_request = lambda _: next(answers)
    with client.messages.stream(model=MODEL, max_tokens=100, messages=MESSAGES) as stream:
        assert stream.get_final_text() == "你好 🌍"

    assert [each["outcome"] for each in vendors.receipts(key.account)] == ["completed"]


@pytest.mark.parametrize("how", ["error event", "reset", "silent end"])
def test_a_stream_that_breaks_after_content_raises_and_is_billed_for_what_came(
    vendors: RunningFarebox, client: Anthropic, key: Funded, upstream: ScriptedUpstream, how: str
) -> None:
    begun = [start(), *said("some", " words")[:-1]]
    last: dict[str, list[Step]] = {
        "error event": [Send(event("error", error={"type": "overloaded_error", "message": SECRET}))],
        "reset": [Reset()],
        "silent end": [],
    }
    go_on = WaitFor()  # what breaks before the caller has had content is tried again
    upstream.script = [*sse_answer(begun), go_on, *last[how]]
    seen: list[str] = []
    with (
        pytest.raises(anthropic.APIStatusError) as raised,
        client.messages.stream(model=MODEL, max_tokens=100, messages=MESSAGES) as stream,
    ):
        seen.extend(_telling(stream.text_stream, go_on.event))

    assert seen == ["some", " words"]
    assert SECRET not in str(raised.value.body)
    assert told(raised.value)["code"] == "upstream_error"
    (receipt,) = vendors.receipts(key.account)
    assert receipt["outcome"] == "upstream_cut"
    assert receipt["usage"]["input_token"] == {"count": 10, "source": "upstream"}
    assert receipt["usage"]["output_token"] == {"count": 2, "source": "counted"}
    assert len(upstream.requests) == 1


def _telling(texts: Iterable[str], both: threading.Event) -> Iterator[str]:
    """The texts; once two have come, `both` is set."""
    for number, text in enumerate(texts, start=1):
        yield text
        if number == 2:
            both.set()
