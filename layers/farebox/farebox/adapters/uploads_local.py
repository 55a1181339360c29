"""Uploads as files of a local service, sent to the service itself by a URL that carries its own permission."""

from __future__ import annotations

import asyncio
import hmac
import os
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedWriter, FileIO
from pathlib import Path
from urllib.parse import parse_qs, urlencode

import orjson

from farebox.dialects.ask import refuse
from farebox.domain.uploads import TooMuch, Upload
from farebox.errors import Forbidden, InvalidRequest, NotFound, TooMany
from farebox.ports import Clock, Randomness

ROOM_BYTES = 1024 * 1024 * 1024
"""All uploads together, those on their way included."""
ROOM_BYTES_MIN = 64 * 1024
"""What the smallest file counts for, so that their number has a limit too."""
WRITE_BYTES = 256 * 1024
HEAD_BYTES_MAX = 2048
QUERY_BYTES_MAX = 2048
DRAFT = ".draft"
_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class _Permit:
    """What a URL permits: one file under one name until one moment."""

    name: str
    upload: Upload
    expires_s: int

    def query(self, pepper: bytes) -> str:
        return urlencode({**self._members(), "signature": self.signature(pepper)})

    def signature(self, pepper: bytes) -> str:
        signed = urlencode({"name": self.name, **self._members()})
        return hmac.digest(pepper, f"upload-permit|{signed}".encode(), "sha256").hex()

    def head(self) -> bytes:
        """The first line of the file."""
        return orjson.dumps(self._members()) + b"\n"

    def _members(self) -> dict[str, str | int]:
        return {
            "bytes": self.upload.size,
            "content_type": self.upload.content_type,
            "filename": self.upload.filename,
            "expires": self.expires_s,
        }


class _Draft:
    """A file on its way, `size` bytes long in the end. It is there under its name whole or not at all.

    Written where the event loop runs: the page cache takes a piece in less time than a thread would take to wake, and
    a cancelled request leaves no thread behind that still writes.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._size = size
        self._left = size
        self._file: BufferedWriter | None = None

    def begin(self, head: bytes) -> None:
        self._file = BufferedWriter(FileIO(self.path, "xb", opener=_owner_only), WRITE_BYTES)
        self._file.write(head)

    def add(self, piece: bytes) -> None:
        """Raises InvalidRequest as soon as it is too much."""
        assert self._file is not None  # noqa: S101 - begun
        self._left -= len(piece)
        if self._left < 0:
            raise _wrong_size(self._size)
        self._file.write(piece)

    def finish(self, path: Path) -> None:
        """Raises InvalidRequest where something is missing."""
        assert self._file is not None  # noqa: S101 - begun
        if self._left:
            raise _wrong_size(self._size)
        self._file.close()
        self.path.replace(path)

    def close(self) -> None:
        """What is not finished is gone."""
        if self._file is not None:
            self._file.close()
            self.path.unlink(missing_ok=True)


class LocalUploads:
    """`ports.Uploads` in a folder that is this process's own. Each file is one line of JSON, then the bytes."""

    def __init__(
        self, folder: Path, *, pepper: bytes, clock: Clock, random: Randomness, room_bytes: int = ROOM_BYTES
    ) -> None:
        self._folder = folder
        self._pepper = pepper
        self._clock = clock
        self._random = random
        self._room_bytes = room_bytes
        self._arriving: dict[Path, int] = {}

    async def presign(self, name: str, upload: Upload, expires_s: int, origin: str) -> tuple[str, dict[str, str]]:
        permit = _Permit(name, upload, expires_s)
        headers = {"Content-Length": str(upload.size), "Content-Type": upload.content_type}
        return f"{origin}/v1/uploads/presigned/{name}?{permit.query(self._pepper)}", headers

    async def receive(self, name: str, query: bytes, length: int | None, pieces: AsyncIterator[bytes]) -> None:
        permit = self._permitted(name, query)
        size = permit.upload.size
        if length is not None and length != size:
            raise _wrong_size(size)
        draft = _Draft(self._folder / f"{name}.{self._random.token(8).hex()}{DRAFT}", size)
        self._arriving[draft.path] = max(size, ROOM_BYTES_MIN)
        try:
            await asyncio.to_thread(self._check_room, sum(self._arriving.values()))
            async with asyncio.timeout(permit.expires_s - self._clock.now_ms() / 1000):
                draft.begin(permit.head())
                async for piece in pieces:
                    draft.add(piece)
                draft.finish(self._folder / name)
        except TimeoutError:
            raise _forbidden() from None
        finally:
            draft.close()
            del self._arriving[draft.path]

    async def fetch(self, name: str, size_max: int) -> tuple[Upload, bytes] | None:
        return await asyncio.to_thread(self._read, name, size_max)

    async def delete(self, name: str) -> None:
        await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)

    async def sweep(self) -> int:
        """Removes expired files, and drafts that a killed process left."""
        return await asyncio.to_thread(self._sweep)

    def _permitted(self, name: str, query: bytes) -> _Permit:
        """What the URL permits. Raises NotFound, Forbidden."""
        if not _NAME.fullmatch(name):
            raise NotFound
        try:
            given = parse_qs(query[: QUERY_BYTES_MAX + 1].decode("ascii"), strict_parsing=True, max_num_fields=8)
            told = {member: value for member, (value,) in given.items()}
            upload = Upload(told["filename"], told["content_type"], int(told["bytes"]))
            permit = _Permit(name, upload, int(told["expires"]))
            signature = told["signature"].encode()
        except (KeyError, ValueError):
            raise _forbidden() from None
        if not hmac.compare_digest(permit.signature(self._pepper).encode(), signature):
            raise _forbidden()
        if permit.expires_s * 1000 <= self._clock.now_ms():
            raise _forbidden()
        return permit

    def _check_room(self, arriving_bytes: int) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        used = sum(max(_size(path), ROOM_BYTES_MIN) for path in self._files() if not path.name.endswith(DRAFT))
        if used + arriving_bytes > self._room_bytes:
            raise TooMany(
                zh="暂存的上传文件过多，请稍后再试。", en="Too many uploads are waiting to be used.", retry_after_s=60
            )

    def _read(self, name: str, size_max: int) -> tuple[Upload, bytes] | None:
        try:
            with (self._folder / name).open("rb") as file:
                head = orjson.loads(file.readline(HEAD_BYTES_MAX))
                upload = Upload(head["filename"], head["content_type"], head["bytes"])
                if head["expires"] * 1000 <= self._clock.now_ms():
                    return None
                if upload.size > size_max:
                    raise TooMuch
                data = file.read(upload.size + 1)
        except FileNotFoundError:
            return None
        return (upload, data) if len(data) == upload.size else None

    def _sweep(self) -> int:
        removed = 0
        for path in self._files():
            if path not in self._arriving and (path.name.endswith(DRAFT) or self._is_over(path)):
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _is_over(self, path: Path) -> bool:
        try:
            with path.open("rb") as file:
                return bool(orjson.loads(file.readline(HEAD_BYTES_MAX))["expires"] * 1000 <= self._clock.now_ms())
        except FileNotFoundError:
            return False
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return True  # no file of ours

    def _files(self) -> list[Path]:
        with suppress(FileNotFoundError):
            return list(self._folder.iterdir())
        return []


class NoUploads:
    """`ports.Uploads` where there is no place for them: the route is not there, and every reference is unknown."""

    async def presign(self, name: str, upload: Upload, expires_s: int, origin: str) -> tuple[str, dict[str, str]]:  # noqa: ARG002 - see ports
        raise NotFound

    async def receive(self, name: str, query: bytes, length: int | None, pieces: AsyncIterator[bytes]) -> None:  # noqa: ARG002 - see ports
        raise NotFound

    async def fetch(self, name: str, size_max: int) -> tuple[Upload, bytes] | None:  # noqa: ARG002 - see ports
        return None

    async def delete(self, name: str) -> None:
        pass

    async def sweep(self) -> int:
        return 0


def _forbidden() -> Forbidden:
    return Forbidden(zh="上传链接无效或已过期。", en="This upload URL is not valid, or has expired.")


def _wrong_size(size: int) -> InvalidRequest:
    return refuse("bytes", zh=f"文件必须正好是 {size} 字节", en=f"the file must have exactly {size} bytes")


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
