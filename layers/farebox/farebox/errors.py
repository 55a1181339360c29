"""What can go wrong, as callers see it.

    FareboxError
    ├── InvalidRequest            400  a parameter, the JSON, a missing price
    │   └── InvalidCode           400  a redeem code that is wrong, used or expired
    ├── InvalidApiKey             401  missing, malformed, unknown, revoked, expired
    ├── InsufficientBalance       402  the wallet cannot cover the hold
    ├── Forbidden
    │   ├── ModelNotAllowed       403  a free key and a paid model; the key's list of models
    │   ├── AddressNotAllowed     403  the key's list of addresses
    │   ├── PromptTooLong         403  the free tier's input limit
    │   └── AccountFrozen         403
    ├── NotFound                  404
    │   └── ModelNotFound
    ├── RequestTooLarge           413
    ├── Conflict                  422  an idempotency key used for something else
    ├── AlreadyRunning            422  the same request runs at this moment
    ├── AlreadyCompleted          422  the same request has run; its text was not kept
    ├── Cancelled                 499  its owner stopped it
    ├── TooMany
    │   ├── DailyQuotaExceeded    429
    │   └── TooManyInFlight       429
    └── Unavailable
        ├── UpstreamError         502  it answered with an error, or with nonsense
        ├── UpstreamUnavailable   503  it could not be reached, or sends us away
        ├── UpstreamTimeout       504
        ├── NotConfigured         503  the operator has not set this up
        ├── PaymentUnavailable    503  the payment provider does not answer, or not well
        └── StoreUnavailable      503  no store, no upstream call

Each carries fields, never text of a user's or of a model's. `http/errors.py` turns a class into a status, a
code and two sentences.
"""

from __future__ import annotations

from collections.abc import Mapping


class FareboxError(Exception):
    """The root. `zh` and `en` are the two sentences that a caller reads; `param` names the parameter at fault.

    `details` are further members of the error that a caller reads.
    """

    zh = "服务内部错误。"
    en = "Internal error."

    def __init__(self, *, zh: str | None = None, en: str | None = None, param: str | None = None) -> None:
        super().__init__(en or self.en)
        self.details: Mapping[str, object] = {}
        self.zh = zh or self.zh
        self.en = en or self.en
        self.param = param


class InvalidRequest(FareboxError):
    """The request is malformed, or asks for something that has no price."""

    zh = "请求无效。"
    en = "The request is invalid."


class InvalidCode(InvalidRequest):
    """One sentence for every reason, so that an answer never tells which codes exist."""

    zh = "兑换码无效、已使用或已过期。"
    en = "The code is wrong, used or expired."

    def __init__(self) -> None:
        super().__init__(param="code")


class InvalidApiKey(FareboxError):
    """One sentence for every reason, so that an answer never tells which keys exist."""

    zh = "API Key 缺失、错误、已吊销或已过期。"
    en = "The API key is missing, wrong, revoked or expired."


class InsufficientBalance(FareboxError):
    """The wallet cannot cover the request's upper bound. `needed_nano` and `available_nano` are nano-CA."""

    def __init__(self, *, needed_nano: int, available_nano: int, needed: str, available: str) -> None:
        super().__init__(
            zh=f"余额不足：本次请求最多需要 {needed} CA，可用余额 {available} CA。请充值，或调小 max_tokens。",
            en=(
                f"Insufficient balance: this request may cost up to {needed} CA, {available} CA is available. "
                "Top up, or lower max_tokens."
            ),
        )
        self.needed_nano = needed_nano
        self.available_nano = available_nano


class Forbidden(FareboxError):
    """The key is good but may not do this."""


class ModelNotAllowed(Forbidden):
    """A free key asks for a paid model, or the key's own list of models leaves it out."""

    zh = "此 Key 无权使用该模型。免费 Key 可用的模型见 GET /v1/models。"
    en = "This key may not use this model. GET /v1/models lists the models that it may use."
    param = "model"

    def __init__(self) -> None:
        super().__init__(param="model")


class AddressNotAllowed(Forbidden):
    """The caller's address is not on the key's list."""

    zh = "此 Key 不允许从该地址使用。"
    en = "This key may not be used from this address."


class PromptTooLong(Forbidden):
    """The prompt exceeds the free tier's input limit, in tokens."""

    def __init__(self, *, limit_tokens: int) -> None:
        super().__init__(
            zh=f"免费 Key 每次请求的输入最多 {limit_tokens} tokens。",
            en=f"A free key may send at most {limit_tokens} input tokens per request.",
            param="messages",
        )
        self.limit_tokens = limit_tokens


class AccountFrozen(Forbidden):
    """The account is frozen by the operator."""

    zh = "账户已被冻结，请联系管理员。"
    en = "The account is frozen. Please contact the operator."


class NotFound(FareboxError):
    """No such route or record."""

    zh = "没有这个地址或记录。"
    en = "There is nothing at this address."


class ModelNotFound(NotFound):
    """The catalog has no such model for this endpoint, or no channel serves it."""

    zh = "没有这个模型，或此接口不支持该模型。可用模型见 GET /v1/models。"
    en = "There is no such model here, or this endpoint does not serve it. GET /v1/models lists what there is."

    def __init__(self) -> None:
        super().__init__(param="model")


class RequestTooLarge(FareboxError):
    """The body exceeds the limit, in bytes."""

    def __init__(self, *, limit_bytes: int) -> None:
        megabytes = f"{limit_bytes / (1024 * 1024):.1f}"  # a size for people, not money
        super().__init__(
            zh=f"请求体超过 {megabytes} MB 上限。大文件请先经 POST /v1/uploads/presigned 上传，再在请求中引用。",
            en=(
                f"The body exceeds the limit of {megabytes} MB. Send large files ahead with "
                "POST /v1/uploads/presigned and refer to them."
            ),
        )
        self.limit_bytes = limit_bytes


class Conflict(FareboxError):
    """The same idempotency key for something else."""

    zh = "同一个幂等键已用于另一请求。"
    en = "This idempotency key was already used for another request."


class AlreadyRunning(FareboxError):
    """The same request, under the same idempotency key, runs at this moment."""

    zh = "同一个幂等键的请求正在进行。"
    en = "A request with this idempotency key is running."


class AlreadyCompleted(FareboxError):
    """The same request has run. `details` say what it used and cost; its answer was not kept."""

    def __init__(self, details: Mapping[str, object]) -> None:
        super().__init__(
            zh="该请求已完成，不会重复执行或计费；回答内容未被保存。",
            en="This request has been completed; it is neither run nor billed again. Its answer was not kept.",
        )
        self.details = details


class Cancelled(FareboxError):
    """The request was stopped by its owner."""

    zh = "请求已被取消。"
    en = "The request was cancelled."


class TooMany(FareboxError):
    """A limit. `retry_after_s` is when it is worth trying again."""

    def __init__(self, *, zh: str, en: str, retry_after_s: int) -> None:
        super().__init__(zh=zh, en=en)
        self.retry_after_s = retry_after_s


class DailyQuotaExceeded(TooMany):
    """The day's units are used up; they come back at the reset."""

    def __init__(self, *, subject: str, limit: int, retry_after_s: int, reset_at: str) -> None:
        who_zh, who_en = {"key": ("每个免费 Key", "a free key"), "address": ("每个 IP", "one address")}[subject]
        super().__init__(
            zh=f"{who_zh}此类模型每日限 {limit} 次，{reset_at} 重置后再试。",
            en=f"The daily limit of {who_en} for this class of models is {limit} requests; it resets at {reset_at}.",
            retry_after_s=retry_after_s,
        )
        self.subject = subject
        self.limit = limit


class TooManyInFlight(TooMany):
    """Too many requests of this account are running at once."""

    def __init__(self, *, limit: int) -> None:
        super().__init__(
            zh=f"同时进行的请求超过 {limit} 个。",
            en=f"More than {limit} requests of this account are running at once.",
            retry_after_s=1,
        )
        self.limit = limit


class Unavailable(FareboxError):
    """Something behind us failed. `retry_after_s` is a hint, or None."""

    def __init__(self, *, retry_after_s: int | None = None, param: str | None = None) -> None:
        super().__init__(param=param)
        self.retry_after_s = retry_after_s


class UpstreamError(Unavailable):
    """The upstream answered with an error of its own, or with something that is no answer."""

    zh = "上游返回错误。没有内容返回的请求不计费。"
    en = "The upstream answered with an error. What brings no content costs nothing."


class UpstreamUnavailable(Unavailable):
    """The upstream could not be reached, or is overloaded."""

    zh = "上游暂不可用，请稍后重试。没有内容返回的请求不计费。"
    en = "The upstream is unavailable; please retry later. What brings no content costs nothing."


class UpstreamTimeout(Unavailable):
    """The upstream sent nothing for too long."""

    zh = "上游超时。没有内容返回的请求不计费。"
    en = "The upstream timed out. What brings no content costs nothing."


class NotConfigured(Unavailable):
    """The operator has not set this up."""

    zh = "服务方未启用此功能。"
    en = "The operator has not set this up."


class PaymentUnavailable(Unavailable):
    """The payment provider does not answer, or not with what we need."""

    zh = "支付服务暂不可用，请稍后重试。"
    en = "The payment provider is unavailable; please retry later."


class StoreUnavailable(Unavailable):
    """The store cannot be reached or is throttling; nothing was sent upstream."""

    zh = "存储暂不可用，请求未发送，请稍后重试。"
    en = "The store is unavailable and nothing was sent upstream. Please retry later."
