"""Gemini's generateContent and streamGenerateContent, read. https://ai.google.dev/api/generate-content"""

from __future__ import annotations

import re
from typing import Any

from farebox.dialects.ask import Ask, Count, Fields, model_of, refuse, unpriced, whole
from farebox.dialects.gemini import counting
from farebox.dialects.gemini.parts import Found, check_content
from farebox.dialects.gemini.spelling import member
from farebox.dialects.gemini.tap import GeminiTap
from farebox.dialects.gemini.tools import check_tools
from farebox.dialects.json_text import listed
from farebox.dialects.openai.charges import stored_elsewhere
from farebox.dialects.wire import Incoming, Wire

TOKENS_MAX = 10_000_000
CHOICES_MAX = 8
CONTENTS_MAX = 20_000
ORDINARY_TIERS = ("", "unspecified", "standard")
OPERATORS_OWN = ("cachedContent", "continuationToken")
"""Names of what the vendor keeps under the operator's account."""
MODALITIES: dict[str, str | None] = {"TEXT": None, "IMAGE": "image_output_token", "AUDIO": "audio_output_token"}
"""What may be asked for, and the unit that must have a price."""
PING = b'data: {"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"index":0}]}\n\n'
"""Google's SDKs for Python and Go take a comment for a broken answer, Go's a blank line too. All bear an empty text."""
UNPRICED = (
    "routingConfig",  # another model, at its own price
    "modelSelectionConfig",
    "generationOutputConfig",  # files of the operator's are written
    "translationConfig",
)
"""Members of the configuration, or beside it, that nobody has priced."""
_TIER = re.compile(r"[a-z][a-z0-9_]{0,31}")


def read(incoming: Incoming) -> Ask:
    """Checks what matters for money and routing; everything else is the upstream's to judge. Raises InvalidRequest."""
    body = incoming.fields
    found = Found()
    model = path_model(incoming)
    _check_contents(body.get("contents"), found)
    instruction, system = member(body, "systemInstruction")
    if system is not None:
        check_content(system, instruction, found)
    check_tools(body.get("tools"), found)
    for name in OPERATORS_OWN:
        where, value = member(body, name)
        if value is not None:
            raise stored_elsewhere(where)
    if body.get("store") not in (None, False):
        raise stored_elsewhere("store")
    where, config = member(body, "generationConfig")
    if config is not None and not isinstance(config, dict):
        raise refuse(where, zh="必须是对象", en="it must be an object")
    _check_unpriced(body, "")
    _check_unpriced(config or {}, where)
    _check_modalities(config or {}, where, found)
    limit_name, limit = _whole(config or {}, "maxOutputTokens", where, TOKENS_MAX)
    _, choices = _whole(config or {}, "candidateCount", where, CHOICES_MAX)

    def count_input(count: Count) -> int:
        return counting.count_contents(body, count)

    return Ask(
        model=model,
        stream=bool(incoming.stream),
        count_input=count_input,
        output_limits={} if limit is None else {limit_name: limit},
        choices=choices or 1,
        images=tuple(found.images),
        bounds=found.bounds,
        service_tier=_service_tier(body, found),
        needs=found.needs,
    )


def path_model(incoming: Incoming) -> str:
    """The model that the path names. Raises InvalidRequest, also where the body names another."""
    named = incoming.fields.get("model")
    if incoming.model is None:
        return model_of({"model": named.removeprefix("models/") if isinstance(named, str) else named})
    model = model_of({"model": incoming.model})
    check_same_model(named, model, "model")
    return model


def check_same_model(named: Any, model: str, where: str) -> None:
    """A name in the body, absent or the path's own. Raises InvalidRequest."""
    if named is not None and named not in (model, f"models/{model}"):
        raise refuse(where, zh="与路径中的模型不一致", en="it is not the model in the path")


def tap(count: Count, ask: Ask) -> GeminiTap:
    return GeminiTap(
        count, choices=ask.choices, stream=ask.stream, web_searches=min(1, ask.bounds.get("web_search", 0))
    )


GENERATE_CONTENT = Wire(
    name="generateContent",
    dialect="gemini",
    kinds=frozenset({"chat"}),
    read=read,
    tap=tap,
    ping=PING,
    end_marker=False,
    limit_param="generationConfig.maxOutputTokens",
    marks=(b'"candidates"', b'"usageMetadata"', b'"promptFeedback"'),
)


def _check_contents(contents: Any, found: Found) -> None:
    items = listed(contents)
    if not items or len(items) > CONTENTS_MAX:
        raise refuse("contents", zh="必须是非空数组", en="it must be a non-empty array")
    for index, content in enumerate(items):
        check_content(content, f"contents[{index}]", found)


def _check_unpriced(holder: Fields, where: str) -> None:
    for name in UNPRICED:
        path, value = member(holder, name, where)
        if value is not None:
            raise unpriced(path)
    # A format for an image, for sound or for film is a wish for one.
    path, formats = member(holder, "responseFormat", where)
    for index, each in enumerate(listed(formats)):
        if not isinstance(each, dict) or set(each) - {"text"}:
            raise unpriced(f"{path}[{index}]")


def _check_modalities(config: dict[str, Any], where: str, found: Found) -> None:
    name, modalities = member(config, "responseModalities", where)
    for index, modality in enumerate(listed(modalities)):
        known = modality.upper() if isinstance(modality, str) else ""
        if known not in MODALITIES:
            raise unpriced(f"{name}[{index}]")
        unit = MODALITIES[known]
        if unit is not None:
            found.needs[f"{name}[{index}]"] = unit


def _whole(config: dict[str, Any], name: str, where: str, high: int) -> tuple[str, int | None]:
    path, value = member(config, name, where)
    return path, whole({path: value}, path, low=1, high=high)


def _service_tier(body: Fields, found: Found) -> str | None:
    name, tier = member(body, "serviceTier")
    if tier is None or (isinstance(tier, str) and tier.lower() in ORDINARY_TIERS):
        return None
    if not isinstance(tier, str) or not _TIER.fullmatch(tier.lower()):
        raise refuse(name, zh="必须是服务等级的名称", en="it must be the name of a service tier")
    found.needs[name] = f"service_tier/{tier.lower()}"
    return tier.lower()
