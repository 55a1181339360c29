"""`farebox serve` as a user runs it: a real process with children of its own, ended by real signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import httpx

from farebox.local.store_process import free_port, program

FAREBOX = str(Path(sys.executable).with_name("farebox"))
READY = re.compile(r"^farebox ready on (http://\S+)$", re.MULTILINE)
READY_S = 40
EXIT_S = 30
http = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=30)
"""For all tests: a client of one's own per request would spend 30 ms on TLS that nobody uses. No connection is kept."""


class FareboxProcess:
    """Starts on entering, is gone on leaving. `url` answers in between.

    `config` is the text of a settings file; `env` comes on top of an environment without any FAREBOX_ variable.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        demo: bool = False,
        config: str | None = None,
        env: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self.data_dir = data_dir
        self._demo = demo
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("FAREBOX_")} | dict(
            env or {}
        )
        self._arguments = ["serve", "--port", str(port), "--data-dir", str(data_dir)]
        if demo:
            self._arguments.append("--demo")
        if config is not None:
            path = data_dir.with_name(f"{data_dir.name}.toml")
            path.write_text(config, "utf-8")
            self._arguments += ["--config", str(path)]
        self._process: subprocess.Popen[str] | None = None
        self._readers: list[threading.Thread] = []
        self._lines: dict[str, list[str]] = {"out": [], "err": []}

    # ── its life ────────────────────────────────────────────────────────────────────────────────────────────────

    def __enter__(self) -> FareboxProcess:
        self.launch()
        try:
            wait_until(self._has_said_all, within_s=READY_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.running:
            self.kill()

    def launch(self) -> None:
        """Starts it without waiting: for those that are not meant to become ready."""
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [FAREBOX, *self._arguments],
            env=self._env,
            cwd=self.data_dir.parent,  # no farebox.toml is there
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        for name, stream in (("out", self._process.stdout), ("err", self._process.stderr)):
            assert stream is not None
            reader = threading.Thread(target=self._read, args=(stream, self._lines[name]), daemon=True)
            reader.start()
            self._readers.append(reader)

    def exit_code(self, within_s: float = EXIT_S) -> int:
        """Waits for its end."""
        assert self._process is not None
        code = self._process.wait(within_s)
        for reader in self._readers:
            reader.join(5)
        return code

    def terminate(self) -> None:
        """SIGTERM, and no wait."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.terminate()
        return self.exit_code()

    def kill(self) -> None:
        """SIGKILL: it gets no chance to say or do anything."""
        assert self._process is not None
        self._process.kill()
        self.exit_code()

    # ── what can be seen of it ──────────────────────────────────────────────────────────────────────────────────

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def output(self) -> str:
        return "".join(self._lines["out"])

    @property
    def errors(self) -> str:
        return "".join(self._lines["err"])

    @property
    def url(self) -> str:
        found = READY.search(self.output)
        assert found is not None, self.output + self.errors
        return found[1]

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def free_key(self) -> str:
        return self._printed("free key")

    @property
    def paid_key(self) -> str:
        return self._printed("paid key")

    @property
    def admin_token(self) -> str:
        return self._printed("admin token")

    @property
    def curl_line(self) -> str:
        return next(line for line in self.output.splitlines() if line.startswith("curl "))

    def children(self) -> dict[int, str]:
        """pid → command line of each process that it started."""
        return {pid: command_line(pid) for pid in pids() if _parent_of(pid) == self.pid}

    def child(self, name: str) -> int:
        """The pid of the child whose command line has `name` in it."""
        return next(pid for pid, line in self.children().items() if name in line)

    # ── the admin's calls ───────────────────────────────────────────────────────────────────────────────────────

    def admin(self, method: str, path: str, body: object = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {self._env.get('FAREBOX_ADMIN_TOKEN') or self.admin_token}"}
        return http.request(method, f"{self.url}/admin/v1{path}", json=body, headers=headers)

    def new_key(self, **wanted: object) -> dict[str, str]:
        answer = self.admin("POST", "/keys", {"kind": "paid", "credit": "10", **wanted})
        assert answer.status_code == 201, answer.text
        made: dict[str, str] = answer.json()
        return made

    def account(self, account: str) -> dict[str, object]:
        answer = self.admin("GET", f"/accounts/{account}")
        assert answer.status_code == 200, answer.text
        seen: dict[str, object] = answer.json()
        return seen

    # ── inside ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _printed(self, label: str) -> str:
        found = re.search(rf"^  {label}\s+(\S+)", self.output, re.MULTILINE)
        assert found is not None, f"no {label} in: {self.output}"
        return found[1]

    def _has_said_all(self) -> bool:
        assert self.running, f"it ended instead: {self.output}{self.errors}"
        return READY.search(self.output) is not None and (not self._demo or "\ncurl " in self.output)

    @staticmethod
    def _read(stream: IO[str], lines: list[str]) -> None:
        with stream:
            lines.extend(stream)


class StoreProcess:
    """A dynoxide that the test started, not Farebox."""

    def __init__(self, database: Path) -> None:
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        self._command = [str(program()), "--host", "127.0.0.1", "--port", str(port), "--db-path", str(database)]

    def __enter__(self) -> StoreProcess:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(EXIT_S)


def wait_until(true: Callable[[], bool], *, within_s: float = 10) -> None:
    """Returns as soon as `true()`; fails when the time is up."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, f"not within {within_s} s"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether there is such a process, and not only its exit code that nobody has asked for."""
    return _stat(pid)[:1] not in ([], ["Z"])


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _parent_of(pid: int) -> int | None:
    stat = _stat(pid)
    return int(stat[1]) if stat else None


def _stat(pid: int) -> list[str]:
    """State, parent, … of a process; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
