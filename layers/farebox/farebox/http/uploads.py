"""Files that come apart from the request: where to send one, and requests that refer to them filled in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

import orjson

from farebox.dialects import upload_refs
from farebox.dialects.ask import refuse, whole
from farebox.dialects.upload_refs import Place
from farebox.domain import uploads
from farebox.domain.keys import ApiKey
from farebox.domain.uploads import BYTES_MAX, LIFE_S, TooMuch, Upload
from farebox.errors import FareboxError, InvalidRequest, StoreUnavailable, TooMany
from farebox.http.asgi import CallerGone, Receive, Scope, read_body
from farebox.ports import Caller, Clock, Randomness, Uploads
from farebox.relay.call import Call
from farebox.relay.request import Request, read_json
from farebox.service.authenticate import Authenticator

PRESIGN = "/v1/uploads/presigned"
ASKED_BYTES_MAX = 64 * 1024
SILENCE_S = 60
"""How long a sender may say nothing."""
LENT_BYTES_MAX = 256 * 1024 * 1024
"""All uploads in requests that run at this moment, in this process; a request holds several copies of its body."""
DELETE_S = 2
"""How long a deletion may hold up the end of an answer; what it does not reach expires."""
_HOST = re.compile(rb"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class UploadDesk:
    """`pepper` keys the names under which files lie. `lent`: request's task → bytes of uploads that are in it."""

    uploads: Uploads
    authenticator: Authenticator
    clock: Clock
    random: Randomness
    pepper: bytes
    lent: dict[asyncio.Task[object], int] = field(default_factory=dict)

    async def presign(self, scope: Scope, receive: Receive, key: ApiKey, address: str) -> bytes:
        """POST /v1/uploads/presigned: the answer's JSON.

        Raises InvalidApiKey, AddressNotAllowed, AccountFrozen, InvalidRequest, NotFound, StoreUnavailable.
        """
        account, _ = await self.authenticator.user(key, address)
        upload = _asked(await read_body(scope, receive, ASKED_BYTES_MAX))
        expires_s = self.clock.now_ms() // 1000 + LIFE_S
        upload_id = uploads.mint_id(expires_s, self.random.token)
        name = uploads.object_name(upload_id, account.id, self.pepper)
        url, headers = await self.uploads.presign(name, upload, expires_s, _origin(scope))
        return orjson.dumps(
            {
                "reference": upload_refs.PREFIX.decode() + upload_id,
                "method": "PUT",
                "url": url,
                "headers": headers,
                "max_bytes": BYTES_MAX,
                "expires_at": expires_s,
            }
        )

    async def receive(self, scope: Scope, receive: Receive) -> None:
        """PUT to a URL of this service's own. Raises NotFound, Forbidden, InvalidRequest, TooMany, CallerGone."""
        name = scope["path"].removeprefix(PRESIGN + "/")
        await self.uploads.receive(name, scope["query_string"], _length(scope), _pieces(receive))

    async def filled(self, call: Call) -> Call:
        """The call with the files in its body. Only a key's owner finds them, so the key is proved first.

        Raises InvalidRequest, InvalidApiKey, AddressNotAllowed, AccountFrozen, TooMany, StoreUnavailable.
        """
        places = await asyncio.to_thread(_places, call.request) if _mentions(call.request) else ()
        if not places:
            return call
        account, _ = await self.authenticator.user(call.key, call.address)
        names = {place.upload_id: uploads.object_name(place.upload_id, account.id, self.pepper) for place in places}
        self._check_memory()
        files = await self._files(places, names)
        self._lend(sum(upload.size for upload, _ in files.values()))
        body = await asyncio.to_thread(upload_refs.filled, call.request.body, places, files)
        return replace(call, request=replace(call.request, body=body), uploads=tuple(names.values()))

    def spent(self, call: Call, caller: Caller) -> tuple[Call, Caller]:
        """The same two, such that the files that were used are deleted once the call is answered with success."""
        if not call.uploads:
            return call, caller
        spender = _Spender(caller, self.uploads, call)
        return replace(call, envelope=spender.envelope), spender

    def _check_memory(self) -> None:
        if sum(self.lent.values()) >= LENT_BYTES_MAX:
            raise TooMany(
                zh="同时处理的上传文件过多，请稍后再试。",
                en="Too many uploads are being used at once.",
                retry_after_s=2,
            )

    def _lend(self, size: int) -> None:
        """Until this request is over."""
        task = asyncio.current_task()
        if task is not None:
            self.lent[task] = size
            task.add_done_callback(self.lent.pop)

    async def _files(self, places: tuple[Place, ...], names: dict[str, str]) -> dict[str, tuple[Upload, bytes]]:
        """Each file that the places name, fetched once. Raises InvalidRequest, StoreUnavailable."""
        files: dict[str, tuple[Upload, bytes]] = {}
        left = BYTES_MAX
        now_s = self.clock.now_ms() // 1000
        for place in places:
            if (uploads.expiry_s(place.upload_id) or 0) <= now_s:
                raise upload_refs.unknown(place.param)
            found = files.get(place.upload_id)
            try:
                found = found or await self.uploads.fetch(names[place.upload_id], left)
            except TooMuch:
                raise _too_much(place.param) from None
            if found is None:
                raise upload_refs.unknown(place.param)
            files[place.upload_id] = found
            left -= found[0].size
            if left < 0:
                raise _too_much(place.param)
        return files


class _Spender:
    """A Caller that deletes what was used before it lets an answer end, for then this process may be frozen."""

    def __init__(self, caller: Caller, uploads: Uploads, call: Call) -> None:
        self._caller = caller
        self._uploads = uploads
        self._call = call
        self._succeeded = False

    def envelope(self, error: FareboxError) -> bytes:
        """Asked for where something failed, in the middle of a stream too: the files may be wanted again."""
        self._succeeded = False
        return self._call.envelope(error)

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._succeeded = status == 200
        await self._caller.start(status, headers)

    async def send(self, data: bytes) -> None:
        await self._caller.send(data)

    async def finish(self) -> None:
        if self._succeeded:
            with suppress(TimeoutError, StoreUnavailable):
                async with asyncio.timeout(DELETE_S):
                    await asyncio.gather(*map(self._uploads.delete, self._call.uploads))
        await self._caller.finish()

    async def is_gone(self) -> bool:
        return await self._caller.is_gone()


def _asked(body: bytes) -> Upload:
    """What is to be uploaded. Raises InvalidRequest."""
    fields = read_json(body)
    filename = fields.get("filename")
    if not isinstance(filename, str) or not uploads.is_filename(filename):
        raise refuse(
            "filename",
            zh="必须是 1 到 100 个字符的文件名，不含路径、引号和控制字符",
            en="it must be a file name of 1 to 100 characters without a path, quotes or control characters",
        )
    size = whole(fields, "bytes", low=1, high=BYTES_MAX)
    if size is None:
        raise refuse("bytes", zh="必须是文件的字节数", en="it must be the file's length in bytes")
    kind = fields.get("content_type")
    if kind is None:
        kind = uploads.type_of(filename)
    if not isinstance(kind, str) or not uploads.is_content_type(kind):
        raise refuse(
            "content_type", zh="必须形如 audio/mpeg，不带参数", en="it must be as audio/mpeg, without parameters"
        )
    return Upload(filename, kind, size)


def _mentions(request: Request) -> bool:
    return upload_refs.PREFIX in request.body


def _places(request: Request) -> tuple[Place, ...]:
    """The references in the body. Raises InvalidRequest."""
    if request.is_form:
        return upload_refs.places_in_form(request.body, request.content_type)
    return upload_refs.places_in_json(request.body)


def _too_much(param: str) -> InvalidRequest:
    megabytes = BYTES_MAX // (1024 * 1024)
    return refuse(
        param,
        zh=f"一次请求引用的上传文件合计最多 {megabytes} MB",
        en=f"the uploads of a request may have {megabytes} MB in all",
    )


def _origin(scope: Scope) -> str:
    """How the caller reached this service; told to nobody but the caller."""
    hosts = [value for name, value in scope["headers"] if name == b"host" and _HOST.fullmatch(value)]
    if hosts:
        return f"{scope.get('scheme', 'http')}://{hosts[0].decode('ascii')}"
    host, port = scope.get("server") or ("127.0.0.1", 80)
    return f"http://{host}:{port}"


def _length(scope: Scope) -> int | None:
    """What the request's header says of its length."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() and len(lengths[0]) < 20 else None


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    """The body as it comes. Raises CallerGone."""
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                message = await receive()
        except TimeoutError:
            raise CallerGone from None
        if message["type"] == "http.disconnect":
            raise CallerGone
        if piece := message.get("body", b""):
            yield piece
        if not message.get("more_body"):
            return
