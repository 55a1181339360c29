"""Nothing that would make a vendor charge for more than the bill covers gets past a reader."""

from __future__ import annotations

from typing import Any

import pytest

from farebox.dialects.anthropic.betas import priced
from farebox.dialects.ask import Ask
from farebox.dialects.wire import Incoming
from farebox.dialects.wires import WIRES
from farebox.errors import InvalidRequest

SAID = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat.completions": {"model": "gpt-4o", "messages": SAID},
    "completions": {"model": "gpt-3.5-turbo-instruct", "prompt": "hi"},
    "responses": {"model": "gpt-4o", "input": "hi"},
    "embeddings": {"model": "text-embedding-3-small", "input": "hi"},
    "images.generations": {"model": "dall-e-3", "prompt": "hi"},
    "messages": {"model": "claude", "max_tokens": 9, "messages": SAID},
    "generateContent": {"model": "gemini", "contents": [{"parts": [{"text": "hi"}]}]},
}
OPENAIS = ("chat.completions", "completions", "responses", "embeddings")
HOSTED = ("web_search_preview", "file_search", "code_interpreter", "image_generation", "mcp", "computer_use_preview")
HOSTED += ("computer", "programmatic_tool_calling", "tool_search")


def read(operation: str, more: dict[str, Any]) -> Ask:
    return WIRES[operation].read(Incoming({**BODIES[operation], **more}))


@pytest.mark.parametrize(
    ("operation", "more", "param"),
    [
        *(
            (operation, {name: value}, name)
            for operation in OPENAIS
            for name, value in {
                "search_parameters": {"mode": "auto"},
                "deferred": True,
                "plugins": [{"id": "web"}],
                "models": ["o3-pro"],
                "route": "fallback",
                "provider": {"order": ["x"]},
                "preset": "x",
                "fallbacks": ["o3-pro"],
                "data_sources": [{"type": "azure_search", "parameters": {"endpoint": "https://x"}}],
                "dataSources": [{"type": "AzureCognitiveSearch"}],
                "enhancements": {"ocr": {"enabled": True}},
                "enable_search": True,
                "web_search": {"enable": True},
                "extra_body": {"google": {"cached_content": "cachedContents/1"}},
            }.items()
        ),
        ("chat.completions", {"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ("chat.completions", {"store": True}, "store"),
        ("chat.completions", {"prompt_cache_options": {"prewarm": True}}, "prompt_cache_options.prewarm"),
        ("chat.completions", {"prompt_cache_options": {"ttl": "12h"}}, "prompt_cache_options.ttl"),
        *(("chat.completions", {"tools": [{"type": each}]}, "tools[0].type") for each in HOSTED),
        *(("responses", {"tools": [{"type": each}]}, "tools[0].type") for each in HOSTED[1:]),
        (
            "responses",
            {"tools": [{"type": "namespace", "name": "x", "tools": [{"type": "code_interpreter"}]}]},
            "tools[0].tools[0].type",
        ),
        (
            "responses",
            {"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]},
            "tools[0].environment",
        ),
        ("responses", {"tools": [{"type": "web_search"}]}, "max_tool_calls"),
        ("responses", {"prompt_cache_options": {"prewarm": True}}, "prompt_cache_options.prewarm"),
        ("responses", {"generate": False}, "generate"),
        ("responses", {"background": True}, "background"),
        ("responses", {"prompt": {"id": "pmpt_1"}}, "prompt"),
        ("responses", {"conversation": "conv_1"}, "conversation"),
        ("responses", {"context_management": [{"type": "compaction"}]}, "context_management"),
        ("responses", {"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        *(
            ("responses", {"input": [{"role": "user", "content": [{"type": each}]}]}, "input[0].content[0].type")
            for each in ("input_file", "computer_screenshot", "input_video")
        ),
        ("images.generations", {"size": "1024X1024"}, "size"),
        ("images.generations", {"size": "1024x1024 "}, "size"),
        ("images.generations", {"size": "１０２４x1024"}, "size"),
        ("images.generations", {"quality": "HD"}, "quality"),
        ("images.generations", {"n": "10"}, "n"),
        ("images.generations", {"n": 11}, "n"),
        ("images.generations", {"n": 1.0}, "n"),
        *(
            ("messages", {"tools": [{"type": each, "name": "x"}]}, "tools[0].type")
            for each in (
                "code_execution_20250825",
                "web_fetch_20250910",
                "advisor_20260301",
                "mcp_toolset",
                "agent_toolset_20260401",
                "Web_search_20250305",
                " web_search_20250305",
                "memory",
                "",
            )
        ),
        ("messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].max_uses"),
        ("messages", {"mcp_servers": [{"type": "url", "url": "https://x"}]}, "mcp_servers"),
        ("messages", {"container": "container_1"}, "container"),
        ("messages", {"speed": "fast"}, "speed"),
        ("messages", {"inference_geo": "us"}, "inference_geo"),
        ("messages", {"fallbacks": ["claude-opus"]}, "fallbacks"),
        *(
            (
                "messages",
                {"messages": [{"role": "user", "content": [{"type": each, "source": {}, "content": []}]}]},
                "messages[0].content[0].type",
            )
            for each in ("container_upload", "compaction", "mcp_tool_use", "tool_addition", "web_fetch_tool_result")
        ),
        ("generateContent", {"cachedContent": "cachedContents/1"}, "cachedContent"),
        ("generateContent", {"cached_content": "cachedContents/1"}, "cached_content"),
        ("generateContent", {"model": "gemini", "routingConfig": {"manualMode": {}}}, "routingConfig"),
        (
            "generateContent",
            {"generationConfig": {"routing_config": {"manualMode": {"modelName": "x"}}}},
            "generationConfig.routing_config",
        ),
        (
            "generateContent",
            {"generationConfig": {"modelSelectionConfig": {}}},
            "generationConfig.modelSelectionConfig",
        ),
        (
            "generateContent",
            {"generationConfig": {"responseFormat": [{"text": {}}, {"image": {"imageSize": "4K"}}]}},
            "generationConfig.responseFormat[1]",
        ),
        *(
            ("generateContent", {"tools": [{each: {}}]}, f"tools[0].{each}")
            for each in ("codeExecution", "code_execution", "urlContext", "fileSearch", "googleMaps", "computerUse")
        ),
        (
            "generateContent",
            {"contents": {"parts": {"fileData": {"fileUri": "https://youtu.be/x"}}}},
            "contents[0].parts[0].fileData",
        ),
    ],
)
def test_what_has_a_price_of_its_own_is_refused_by_name(operation: str, more: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(operation, more)

    assert refused.value.param == param


@pytest.mark.parametrize("operation", OPENAIS)
def test_what_asks_for_nothing_passes(operation: str) -> None:
    nothing = {"deferred": False, "models": None, "data_sources": [], "enable_search": False, "extra_body": {}}

    assert read(operation, nothing).needs == {}


@pytest.mark.parametrize("more", [{"generate": True}, {"prompt_cache_options": {"prewarm": False, "ttl": "30m"}}])
def test_an_ordinary_wish_about_the_cache_passes(more: dict[str, Any]) -> None:
    assert read("responses", more).needs == {}


def test_a_format_for_text_passes() -> None:
    assert read("generateContent", {"generationConfig": {"responseFormat": [{"text": {"mimeType": "x"}}]}}).needs == {}


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        ("interleaved-thinking-2025-05-14", "interleaved-thinking-2025-05-14"),
        ("context-1m-2025-08-07", None),
        ("a-1, context-1m-2025-08-07 ,b-2", "a-1,b-2"),
        ("Context-1M-2025-08-07,a-1", "a-1"),
        ("context-1m-2027-01-01", None),
        ("context-management-2025-06-27", "context-management-2025-06-27"),
        (" , ,", None),
        ("", None),
    ],
)
def test_features_that_change_the_price_of_all_are_not_switched_on(said: str, passed: str | None) -> None:
    assert priced(said) == passed
