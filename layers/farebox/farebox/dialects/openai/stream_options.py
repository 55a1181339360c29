"""`stream_options`: usage is always asked of the upstream; a caller who did not ask never sees it."""

from __future__ import annotations

from typing import Any

import orjson

from farebox.dialects.ask import Fields, refuse

ASK_FOR_USAGE = b'{"include_usage":true}'


def usage_changes(body: Fields, *, stream: bool) -> tuple[bool, dict[str, bytes]]:
    """(whether usage must be stripped on the way back, the members to splice in)."""
    options: Any = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise refuse("stream_options", zh="必须是对象", en="it must be an object")
    if not stream:
        if options is not None:
            raise refuse("stream_options", zh="仅可与 stream=true 同用", en="it goes with stream=true only")
        return False, {}
    wanted = (options or {}).get("include_usage")
    if wanted is not None and type(wanted) is not bool:
        raise refuse("stream_options.include_usage", zh="必须是布尔值", en="it must be true or false")
    if wanted:
        return False, {}
    # vLLM's continuous_usage_stats would put usage on every chunk, where it could not be stripped.
    kept = {name: value for name, value in (options or {}).items() if name != "continuous_usage_stats"}
    return True, {"stream_options": orjson.dumps({**kept, "include_usage": True}) if kept else ASK_FOR_USAGE}
