"""Every way from a caller's operation to a vendor's: by itself, or over a bridge. Channels, and requests for them."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farebox.dialects.bridge import Bridge
from farebox.dialects.wire import Wire
from farebox.dialects.wires import WIRES
from farebox.relay.channels import Channel
from farebox.relay.ways import door_for
from farebox.vendors import VENDORS, Door
from tests.contract.recordings import Recording, contract

SPOKEN = "The lamp is lit now."
SEEN = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6364f8cf500f0003860180"
    "5a347d6b0000000049454e44ae426082"
)
with zipfile.ZipFile(Path(__file__).resolve().parents[1] / "data" / "media" / "tones.zip") as archive:
    HEARD = archive.read("bare_vbr.mp3")
OUTPUT_TOKENS = 200
BOUNDARY = "contract-7f3a"
FORMS = {"images.edits": ("image", "lamp.png", "image/png", SEEN)} | dict.fromkeys(
    ("audio.transcriptions", "audio.translations"), ("file", "talk.mp3", "audio/mpeg", HEARD)
)
FORMS["images.variations"] = FORMS["images.edits"]
"""Operations whose requests are forms → the file in them."""
SCHEMA = {
    "type": "object",
    "properties": {"bay": {"type": "integer"}, "note": {"type": "string"}},
    "required": ["bay"],
}
SAID = "Which lamps are lit?"
Json = dict[str, Any]


@dataclass(frozen=True)
class Route:
    """A caller's operation at a vendor. `wire`: what the vendor hears."""

    vendor: str
    caller: Wire
    door: Door
    wire: Wire
    bridge: Bridge | None

    def __str__(self) -> str:
        return f"{self.caller.name}-at-{self.vendor}"

    @property
    def recordings(self) -> list[Recording]:
        """The vendor's answers that can come this way: a bridge asks for nothing out of the ordinary."""
        all_of_it = [each for each in contract(self.vendor).recordings if each.operation == self.wire.name]
        return [each for each in all_of_it if self.bridge is None or not each.facts.ask]

    def recording(self, case: str) -> Recording:
        return next(each for each in self.recordings if each.name == f"{self.wire.name}.{case}")

    def model(self, recording: Recording | None = None) -> str:
        """The model of the catalog that is asked for."""
        told = contract(self.vendor)
        named = recording.facts.model if recording else None
        return named or next(told.models[kind] for kind in self.caller.kinds if kind in told.models)


def routes_of(vendor: str) -> list[Route]:
    found = ((wire, door_for(wire, VENDORS[vendor])) for wire in WIRES.values())
    return [Route(vendor, wire, *way) for wire, way in found if way is not None]


ROUTES = [route for vendor in VENDORS for route in routes_of(vendor)]
ANSWERS = [(route, recording) for route in ROUTES for recording in route.recordings]
STREAMS = [(route, recording) for route, recording in ANSWERS if recording.stream]
BRIDGED = [(route, recording) for route, recording in ANSWERS if route.bridge is not None]


def answer_id(value: object) -> str:
    """How a test's parameters are named."""
    return value.name.replace(".", "_") if isinstance(value, Recording) else str(value)


def upstream_name(model: str) -> str:
    """What channels call it upstream; the vendor's own way of telling models apart still works."""
    return f"{model}-north"


def channel(vendor: str, url: str, model: str, *, name: str = "", priority: int = 0, key: str = "sk-up") -> Channel:
    """A channel to a scripted upstream that serves one model under another name."""
    return Channel(
        name=name or f"to-{vendor}",
        vendor=VENDORS[vendor],
        base_url=url,
        keys=(f"{key}-{vendor}",),
        models=(model,),
        rename={model: upstream_name(model)},
        priority=priority,
    )


@dataclass(frozen=True)
class Asked:
    """A caller's request: path behind the origin, content type, body."""

    path: str
    content_type: str
    body: bytes


def ask(route: Route, recording: Recording, *, include_usage: bool = True, model: str | None = None) -> Asked:
    """A request to which the recording is an answer."""
    operation, stream = route.caller.name, recording.stream
    model = model or route.model(recording)
    if operation in FORMS:
        return _form(operation, {"model": model, **recording.facts.ask, **({"stream": "true"} if stream else {})})
    path, body = REQUESTS[operation](model, stream=stream, tools=recording.tools)
    if route.bridge is None:
        body |= recording.facts.ask
    if stream and include_usage and operation in ("chat.completions", "completions"):
        body["stream_options"] = {"include_usage": True}
    return Asked(path, "application/json", json.dumps(body, ensure_ascii=False).encode())


def _chat(model: str, *, stream: bool, tools: bool) -> tuple[str, Json]:
    body: Json = {
        "model": model,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": SAID}],
        "max_tokens": OUTPUT_TOKENS,
        "stream": stream,
    }
    function = {"name": "lamp_state", "description": "Whether it is lit.", "parameters": SCHEMA}
    return "/v1/chat/completions", body | ({"tools": [{"type": "function", "function": function}]} if tools else {})


def _messages(model: str, *, stream: bool, tools: bool) -> tuple[str, Json]:
    body: Json = {
        "model": model,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": SAID}],
        "max_tokens": OUTPUT_TOKENS,
        "stream": stream,
    }
    tool = {"name": "lamp_state", "description": "Whether it is lit.", "input_schema": SCHEMA}
    return "/v1/messages", body | ({"tools": [tool]} if tools else {})


def _generate(model: str, *, stream: bool, tools: bool) -> tuple[str, Json]:
    body: Json = {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": SAID}]}],
        "generationConfig": {"maxOutputTokens": OUTPUT_TOKENS},
    }
    declared = {"name": "lamp_state", "description": "Whether it is lit.", "parametersJsonSchema": SCHEMA}
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return f"/v1beta/models/{model}:{method}", body | (
        {"tools": [{"functionDeclarations": [declared]}]} if tools else {}
    )


def _responses(model: str, *, stream: bool, tools: bool) -> tuple[str, Json]:
    body: Json = {
        "model": model,
        "instructions": "Be brief.",
        "input": SAID,
        "max_output_tokens": OUTPUT_TOKENS,
        "stream": stream,
        "store": False,
    }
    tool = {"type": "function", "name": "lamp_state", "parameters": SCHEMA, "strict": False}
    return "/v1/responses", body | ({"tools": [tool]} if tools else {})


def _simple(path: str, **members: Any) -> Any:
    def made(model: str, *, stream: bool, tools: bool) -> tuple[str, Json]:
        return path.replace("MODEL", model), {"model": model, **members} | ({"stream": True} if stream else {})

    return made


def _gemini(path: str, body: Json) -> Any:
    return lambda model, **_: (path.replace("MODEL", model), body)


def _batch(model: str, **_: Any) -> tuple[str, Json]:
    request = {"model": f"models/{model}", "content": {"parts": [{"text": SAID}]}}
    return f"/v1beta/models/{model}:batchEmbedContents", {"requests": [request]}


REQUESTS: dict[str, Any] = {
    "chat.completions": _chat,
    "messages": _messages,
    "generateContent": _generate,
    "responses": _responses,
    "completions": _simple("/v1/completions", prompt="The lamp is", max_tokens=OUTPUT_TOKENS),
    "embeddings": _simple("/v1/embeddings", input=SAID),
    "moderations": _simple("/v1/moderations", input=SAID),
    "images.generations": _simple("/v1/images/generations", prompt="A lit lamp", size="1024x1024", quality="low"),
    "audio.speech": lambda model, **_: ("/v1/audio/speech", {"model": model, "input": SPOKEN, "voice": "alloy"}),
    "embedContent": _gemini("/v1beta/models/MODEL:embedContent", {"content": {"parts": [{"text": SAID}]}}),
    "batchEmbedContents": _batch,
}
"""Operation → the path and the JSON of a request: model, stream, tools."""


def _form(operation: str, fields: Json) -> Asked:
    """A form: texts first, then the file. Edits have a prompt and a size."""
    name, filename, kind, data = FORMS[operation]
    if operation == "images.edits":
        fields = {"prompt": "Light it", "quality": "low", "size": "1024x1024", **fields}
    mark = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    texts = "".join(f'{mark}"{each}"\r\n\r\n{value}\r\n' for each, value in fields.items())
    head = f'{texts}{mark}"{name}"; filename="{filename}"\r\nContent-Type: {kind}\r\n\r\n'
    body = head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    return Asked(f"/v1/{operation.replace('.', '/')}", f"multipart/form-data; boundary={BOUNDARY}", body)
