"""OpenAI legacy completions, read: POST /v1/completions."""

from __future__ import annotations

from typing import Any

from farebox.dialects.ask import Ask, Count, Fields, flag, model_of, refuse, refuse_unpriced, whole
from farebox.dialects.openai import counting
from farebox.dialects.openai.charges import service_tier
from farebox.dialects.openai.chat import FREE_OF_CHARGE, TOKENS_MAX
from farebox.dialects.openai.stream_options import usage_changes
from farebox.dialects.openai.tap import MARKS, OpenAITap
from farebox.dialects.wire import Incoming, Wire

CHOICES_MAX = 20
PROMPTS_MAX = 2048


def read(body: Fields) -> Ask:
    """`best_of` completions are generated, and billed, even though `n` come back. Raises InvalidRequest."""
    model = model_of(body)
    prompts = _prompts(body)
    refuse_unpriced(body, FREE_OF_CHARGE)
    tier, needs = service_tier(body)
    stream = flag(body, "stream")
    strip_usage, changes = usage_changes(body, stream=stream)
    asked = whole(body, "max_tokens", low=1, high=TOKENS_MAX)
    choices = whole(body, "n", low=1, high=CHOICES_MAX) or 1
    best_of = whole(body, "best_of", low=1, high=CHOICES_MAX) or choices
    if best_of < choices:
        raise refuse("best_of", zh="不得小于 n", en="it must not be below n")

    def count_input(count: Count) -> int:
        suffix = body.get("suffix")
        counted = counting.count_completion_prompt(body.get("prompt"), count)
        return counted + (count(suffix) if isinstance(suffix, str) else 0)

    return Ask(
        model=model,
        stream=stream,
        count_input=count_input,
        output_limits={} if asked is None else {"max_tokens": asked},
        choices=best_of * prompts,
        needs=needs,
        service_tier=tier,
        strip_usage=strip_usage,
        changes=changes,
    )


def tap(count: Count, ask: Ask) -> OpenAITap:
    return OpenAITap(count, choices=ask.choices, stream=ask.stream)


def _read(incoming: Incoming) -> Ask:
    return read(incoming.fields)


COMPLETIONS = Wire(
    "completions", "openai", frozenset({"completion"}), read=_read, tap=tap, limit_param="max_tokens", marks=MARKS
)


def _prompts(body: Fields) -> int:
    """How many prompts there are; raises InvalidRequest for what is no prompt."""
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return 1
    if not isinstance(prompt, list) or not is_text_or_tokens(prompt):
        raise refuse("prompt", zh="必须是字符串、字符串数组或 token 数组", en="it must be a string, strings, or tokens")
    return 1 if isinstance(prompt[0], int) else len(prompt)


def is_text_or_tokens(value: Any) -> bool:
    """Whether `value` is [string…], [token…] or [[token…]…], not empty, all of one kind, at most PROMPTS_MAX texts."""
    if not isinstance(value, list) or not value:
        return False
    if all(type(each) is int and each >= 0 for each in value):
        return True
    if len(value) > PROMPTS_MAX:
        return False
    return all(isinstance(each, str) for each in value) or all(
        isinstance(each, list) and each and all(type(token) is int and token >= 0 for token in each) for each in value
    )
