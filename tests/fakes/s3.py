"""An S3 of one bucket on a real socket, as far as pre-signed URLs go: it checks each signature by itself.

What is not there is AccessDenied, as for a role that may not list the bucket. `failing` answers are 503 first.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, unquote

from aiohttp import web

ACCESS_KEY, SECRET_KEY, TOKEN = "ASIATEST", "secret/of+tests", "token/of+tests=="
BUCKET, REGION = "bucket", "us-east-1"


class FakeS3:
    """`objects`: path → (headers, bytes). `asked`: (method, path, status) of each request."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, str, int]] = []
        self.failing = 0
        self.now_ms: Callable[[], int] = lambda: int(datetime.now(UTC).timestamp() * 1000)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._port = 0
        self._runner: web.AppRunner

    @property
    def environ(self) -> dict[str, str]:
        """What a function has in its environment."""
        return {
            "FAREBOX_UPLOADS_BUCKET": BUCKET,
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_SESSION_TOKEN": TOKEN,
        }

    def start(self) -> FakeS3:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        answer = self._respond(request, body)
        self.asked.append((request.method, request.path, answer.status))
        return answer

    def _respond(self, request: web.Request, body: bytes) -> web.Response:
        if self.failing:
            self.failing -= 1
            return _error(503, "SlowDown")
        if wrong := self._wrong(request):
            return _error(403, wrong)
        path = request.path
        if request.method == "PUT":
            kept = {
                name.lower(): value
                for name, value in request.headers.items()
                if name.lower() == "content-type" or name.lower().startswith("x-amz-meta-")
            }
            self.objects[path] = (kept, body)
            return web.Response(status=200)
        if request.method == "DELETE":
            self.objects.pop(path, None)
            return web.Response(status=204)
        if path not in self.objects:
            return _error(403, "AccessDenied")
        headers, data = self.objects[path]
        return web.Response(status=200, headers=headers, body=data)

    def _wrong(self, request: web.Request) -> str | None:
        """The error's code, None for a good permission."""
        raw_path, _, raw_query = request.raw_path.partition("?")
        query = dict(parse_qsl(raw_query, keep_blank_values=True))
        given = query.pop("X-Amz-Signature", "")
        try:
            begin = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            life_s = int(query["X-Amz-Expires"])
            key_id, day, region, service, end = query["X-Amz-Credential"].split("/")
            names = query["X-Amz-SignedHeaders"].split(";")
        except (KeyError, ValueError):
            return "AuthorizationQueryParametersError"
        if (key_id, region, service, end) != (ACCESS_KEY, REGION, "s3", "aws4_request"):
            return "InvalidAccessKeyId"
        if query.get("X-Amz-Security-Token") != TOKEN:
            return "InvalidToken"
        age_s = self.now_ms() / 1000 - begin.timestamp()
        if not -900 < age_s < life_s:
            return "AccessDenied"
        unsigned = [name for name in request.headers if name.lower().startswith("x-amz-") and name.lower() not in names]
        if unsigned or "host" not in names:
            return "AccessDenied"
        canonical = "\n".join(
            [
                request.method,
                quote(unquote(raw_path), safe="/-_.~"),
                "&".join(sorted(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())),
                *(f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in names),
                "",
                ";".join(names),
                "UNSIGNED-PAYLOAD",
            ]
        )
        text = "\n".join(
            [
                "AWS4-HMAC-SHA256",
                query["X-Amz-Date"],
                f"{day}/{REGION}/s3/aws4_request",
                hashlib.sha256(canonical.encode()).hexdigest(),
            ]
        )
        key = b"AWS4" + SECRET_KEY.encode()
        for part in (day, REGION, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        wanted = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return None if hmac.compare_digest(wanted, given) else "SignatureDoesNotMatch"


def _error(status: int, code: str) -> web.Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>.</Message></Error>'
    return web.Response(status=status, text=text, content_type="application/xml")
