"""How many prompt tokens an OpenAI request is, counted from its parsed JSON: chat, completions, embeddings.

Pure: the tokenizer comes as `count`, text → tokens in the model's encoding. Nothing here raises on any JSON; what
has an unknown shape counts as its JSON text, because text that nobody counts is text that nobody pays for.

Sources: message overhead, the OpenAI Cookbook (How_to_count_tokens_with_tiktoken); functions as a TypeScript
namespace, measured against the API by hmarr/openai-chat-tokens. `tests/data/counting/vectors.json` holds both
sets of API-reported figures. Tool calls in the history and `response_format` are estimates: no rule is published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from farebox.dialects.json_text import json_text, listed
from farebox.dialects.openai.parts import is_audio, is_image

Count = Callable[[str], int]
Json = Any

MESSAGE_TOKENS = 3
NAME_TOKENS = 1
REPLY_TOKENS = 3  # every reply is primed with <|start|>assistant<|message|>
CALL_TOKENS = 3  # per function_call or tool call in the history, besides its name and arguments
RESULT_TOKENS = -2  # a message of role function or tool
FUNCTIONS_TOKENS = 9
SHARED_SYSTEM_TOKENS = -4  # functions join the caller's first system message instead of opening their own
CHOICE_NONE_TOKENS = 1
CHOICE_NAMED_TOKENS = 4
RESPONSE_FORMAT_TOKENS = 10

SYSTEM_ROLES = frozenset({"system", "developer"})
RESULT_ROLES = frozenset({"function", "tool"})
TEXT_MEMBER = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "summary_text": "text",
    "reasoning_text": "text",
}
"""A content part's type → the member that holds its text."""
SPOKEN_MEMBERS = ("refusal", "reasoning_content", "reasoning")
"""Members of a message in the history that are text beside `content`."""
UNION = {"anyOf": " | ", "oneOf": " | ", "allOf": " & "}
PLAIN_TYPES = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean", "null": "null"}
NESTED_TYPES = frozenset({"object", "array"})
DEFINITIONS = ("$defs", "definitions")
ELSEWHERE = (*UNION, "$ref")
"""Where an object schema may have its members if not in `properties`."""
DESCRIPTION_INDENT_MAX = 2  # the API drops descriptions that are nested deeper
DEPTH_MAX = 16  # schemas nested deeper count as their JSON text


def count_chat(body: Mapping[str, Json], count: Count) -> int:
    """Prompt tokens of a chat.completions body, images and sound left out."""
    messages = listed(body.get("messages"))
    functions = list(_functions(body))
    shared = next((at for at, message in enumerate(messages) if _role(message) in SYSTEM_ROLES), None)
    tokens = REPLY_TOKENS
    for at, message in enumerate(messages):
        tokens += _message_tokens(message, count, padding="\n" if functions and at == shared else "")
    if functions:
        tokens += FUNCTIONS_TOKENS + count(_namespace(functions))
        tokens += SHARED_SYSTEM_TOKENS if shared is not None else 0
    return tokens + _choice_tokens(body, count) + _response_format_tokens(body.get("response_format"), count)


def count_completion_prompt(prompt: Json, count: Count) -> int:
    """Tokens of a completions `prompt`: string, [string…], [token…] or [[token…]…]. Counts it once, whatever `n` is."""
    if prompt is None:
        return 0
    if isinstance(prompt, list):
        return sum(_item_tokens(item, count) for item in prompt)
    return count(json_text(prompt))


def count_embedding_input(given: Json, count: Count) -> int:
    """Tokens of an embeddings `input`: the same four forms, and no overhead either."""
    return count_completion_prompt(given, count)


def _item_tokens(item: Json, count: Count) -> int:
    if _is_token(item):
        return 1
    if isinstance(item, list) and all(_is_token(token) for token in item):
        return len(item)
    return count(json_text(item))


def _is_token(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# Messages


def _message_tokens(message: Json, count: Count, *, padding: str) -> int:
    """One message. `padding` ends the first system message when functions follow in it, before it is tokenized."""
    if not isinstance(message, Mapping):
        return MESSAGE_TOKENS + count(json_text(message) + padding)
    texts = list(_content_texts(message.get("content")))
    if padding:
        texts[-1:] = [(texts[-1] if texts else "") + padding]
    texts += [json_text(message[member]) for member in SPOKEN_MEMBERS if message.get(member)]
    tokens = MESSAGE_TOKENS + sum(count(text) for text in texts)
    role = message.get("role")
    if role is not None:
        tokens += count(json_text(role))
    if message.get("name"):
        tokens += NAME_TOKENS + count(json_text(message["name"]))
    if _role(message) in RESULT_ROLES:
        tokens += RESULT_TOKENS
    if message.get("function_call"):
        tokens += _call_tokens(message["function_call"], count)
    return tokens + sum(_call_tokens(_inner(call), count) for call in listed(message.get("tool_calls")))


def _role(message: Json) -> str:
    return json_text(message.get("role", "")) if isinstance(message, Mapping) else ""


def _content_texts(content: Json) -> Iterator[str]:
    if isinstance(content, list):
        for part in content:
            if not is_image(part) and not is_audio(part):
                yield _part_text(part)
    elif content is not None:
        yield json_text(content)


def _part_text(part: Json) -> str:
    if isinstance(part, Mapping) and isinstance(part.get("type"), str):
        text = part.get(TEXT_MEMBER.get(part["type"], ""))
        if isinstance(text, str):
            return text
    return json_text(part)


def _call_tokens(call: Json, count: Count) -> int:
    """A call that the model made earlier: {name, arguments}, or a custom tool's {name, input}."""
    if not isinstance(call, Mapping):
        return CALL_TOKENS + count(json_text(call))
    said = (call.get(member) for member in ("name", "arguments", "input"))
    return CALL_TOKENS + sum(count(json_text(text)) for text in said if text is not None)


def _inner(tool: Json) -> Json:
    """What a tool, tool call or tool choice wraps: {"type": "function", "function": …}, custom alike; or itself."""
    if isinstance(tool, Mapping):
        for wrapper in ("function", "custom"):
            if isinstance(tool.get(wrapper), Mapping):
                return tool[wrapper]
    return tool


# Functions, as the model is shown them


def _functions(body: Mapping[str, Json]) -> Iterator[Json]:
    for tool in listed(body.get("tools")):
        yield _inner(tool)
    yield from listed(body.get("functions"))


def _namespace(functions: list[Json]) -> str:
    lines = ["namespace functions {", ""]
    for function in functions:
        lines += [*_function_lines(function), ""]
    return "\n".join([*lines, "} // namespace functions"])


def _function_lines(function: Json) -> Iterator[str]:
    if not isinstance(function, Mapping):
        yield json_text(function)
        return
    if function.get("description"):
        yield f"// {json_text(function['description'])}"
    if function.get("format"):  # a custom tool's grammar
        yield f"// {json_text(function['format'])}"
    name, parameters = json_text(function.get("name", "")), function.get("parameters")
    properties = _properties(parameters, indent=0, depth=0)
    if properties:
        yield f"type {name} = (_: {{"
        yield properties
        yield "}) => any;"
    else:
        yield f"type {name} = () => any;"
    if isinstance(parameters, Mapping):
        yield from (json_text(parameters[member]) for member in DEFINITIONS if parameters.get(member))


def _properties(schema: Json, *, indent: int, depth: int) -> str:
    """An object schema's members, one a line, without braces; "" if it has none."""
    if not isinstance(schema, Mapping):
        return "" if schema is None else json_text(schema)
    members = schema.get("properties")
    if not isinstance(members, Mapping):
        return json_text(schema) if members is not None or any(member in schema for member in ELSEWHERE) else ""
    required = {name for name in listed(schema.get("required")) if isinstance(name, str)}
    margin, lines = " " * indent, []
    for name, member in members.items():
        if isinstance(member, Mapping) and member.get("description") and indent < DESCRIPTION_INDENT_MAX:
            lines.append(f"{margin}// {json_text(member['description'])}")
        optional = "" if name in required else "?"
        lines.append(f"{margin}{name}{optional}: {_type(member, indent=indent, depth=depth + 1)},")
    return "\n".join(lines)


def _type(schema: Json, *, indent: int, depth: int) -> str:
    """A JSON schema as a TypeScript type."""
    if not isinstance(schema, Mapping) or depth > DEPTH_MAX:
        return json_text(schema)
    for member, operator in UNION.items():
        if isinstance(schema.get(member), list):
            return operator.join(_type(each, indent=indent, depth=depth + 1) for each in schema[member])
    if isinstance(schema.get("enum"), list):
        return " | ".join(f'"{value}"' if isinstance(value, str) else json_text(value) for value in schema["enum"])
    kinds = _kinds(schema)
    if not kinds:
        return json_text(schema)
    return " | ".join(_typed(kind, schema, indent=indent, depth=depth) for kind in kinds)


def _kinds(schema: Mapping[str, Json]) -> list[str]:
    """The schema's types, each once; none if one is unknown. More would render a member twice, at every depth."""
    kinds = listed(schema.get("type", "object" if "properties" in schema else None))
    known = all(isinstance(kind, str) and (kind in PLAIN_TYPES or kind in NESTED_TYPES) for kind in kinds)
    return list(dict.fromkeys(kinds)) if known else []


def _typed(kind: str, schema: Mapping[str, Json], *, indent: int, depth: int) -> str:
    if kind == "object":
        return "\n".join(["{", _properties(schema, indent=indent + 2, depth=depth), "}"])
    if kind == "array":
        items = schema.get("items")
        return "any[]" if not items else f"{_type(items, indent=indent, depth=depth + 1)}[]"
    return PLAIN_TYPES[kind]


# Choices


def _choice_tokens(body: Mapping[str, Json], count: Count) -> int:
    tokens = 0
    for choice in (body.get("tool_choice"), body.get("function_call")):
        if choice == "none":
            tokens += CHOICE_NONE_TOKENS
        elif isinstance(choice, Mapping):
            inner = _inner(choice)
            tokens += CHOICE_NAMED_TOKENS + count(json_text(inner.get("name", inner)))
    return tokens


def _response_format_tokens(response_format: Json, count: Count) -> int:
    """The schema is put before the model as text, minified; the rest is a heading of about ten tokens."""
    if not isinstance(response_format, Mapping) or response_format.get("type") != "json_schema":
        return 0
    wrapper = response_format.get("json_schema")
    schema = wrapper.get("schema", wrapper) if isinstance(wrapper, Mapping) else wrapper
    return RESPONSE_FORMAT_TOKENS + count(json_text(schema))
