"""`farebox serve` as a newcomer runs it: a real process, the demo upstream, the embedded store, real signals."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from anthropic import Anthropic
from anthropic.types import TextBlock
from google import genai
from openai import APIError, OpenAI

from tests.fakes.process import FareboxProcess, StoreProcess, command_line, http, is_running, pids, wait_until
from tests.fakes.upstream import (
    DONE,
    ScriptedUpstream,
    Send,
    Sleep,
    WaitFor,
    chunk,
    sse_head,
    usage_chunk,
)

ADMIN = {"FAREBOX_ADMIN_TOKEN": "admin-token-of-the-tests"}
MESSAGES: Any = [{"role": "user", "content": "hi"}]
CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES, "max_tokens": 500}
DAY_S = 24 * 3600
GONE_S = 5


def channel(upstream: ScriptedUpstream, **more: str) -> str:
    """Settings with one channel: the scripted upstream."""
    lines = [f'{name} = "{value}"' for name, value in more.items()]
    named = ["[[channel]]", 'name = "scripted"', 'vendor = "openai"', 'keys = ["sk-up"]']
    return "\n".join([*named, f'base_url = "{upstream.url}"', *lines])


def ask(service: FareboxProcess, key: str, **more: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return http.post(f"{service.base_url}/chat/completions", json={**CHAT, **more}, headers=headers)


def balance(service: FareboxProcess, key: str) -> dict[str, str]:
    """The answer of /v1/query/balance, its numbers as they were written."""
    answer = http.post(f"{service.base_url}/query/balance", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    read: dict[str, str] = json.loads(answer.text, parse_float=str, parse_int=str)
    return read


def nano(decimal: str) -> int:
    whole, _, rest = decimal.partition(".")
    return int(whole) * 10**9 + int(rest.ljust(9, "0"))


# ── the first run ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FareboxProcess]:
    with FareboxProcess(tmp_path_factory.mktemp("serve") / "data", demo=True) as service:
        yield service


def test_the_first_run_prints_all_that_a_newcomer_needs(demo: FareboxProcess) -> None:
    assert demo.output.startswith(f"farebox ready on {demo.url}\n")
    assert demo.url.startswith("http://127.0.0.1:")
    assert f"  base_url      {demo.url}/v1\n" in demo.output
    assert f" ANTHROPIC_BASE_URL={demo.url}\n" in demo.output
    assert f" GOOGLE_GEMINI_BASE_URL={demo.url}\n" in demo.output
    assert "演示 DEMO" in demo.output
    assert demo.free_key.startswith("sk-fb-f")
    assert demo.paid_key.startswith("sk-fb-p")
    assert len(demo.admin_token) >= 16
    assert demo.admin("POST", "/keys", {"kind": "free"}).status_code == 201
    assert demo.errors == ""


def test_the_curl_line_works_as_it_is_printed_when_pasted_into_a_shell(demo: FareboxProcess) -> None:
    run = subprocess.run(
        ["bash", "--norc", "--noprofile"],
        input=demo.curl_line + "\n",
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=30,
    )

    assert run.returncode == 0, run.stderr
    assert "你好" in json.loads(run.stdout)["choices"][0]["message"]["content"]


@pytest.mark.parametrize("kind", ["free", "paid"])
def test_the_python_sdk_chats_streams_and_embeds_with_the_printed_keys(demo: FareboxProcess, kind: str) -> None:
    with OpenAI(api_key=demo.free_key if kind == "free" else demo.paid_key, base_url=demo.base_url) as client:
        plain = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
        with client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True) as stream:
            pieces = [each.choices[0].delta.content or "" for each in stream]
        vector = client.embeddings.create(model="text-embedding-3-small", input="hi").data[0].embedding

    assert plain.choices[0].message.content == "".join(pieces)
    assert len(pieces) > 3
    assert len(vector) == 256


def test_the_sdks_of_anthropic_and_google_find_their_way_by_the_printed_variables(
    demo: FareboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in re.findall(r" ([A-Z_]+_BASE_URL)=(\S+)$", demo.output, re.MULTILINE):
        monkeypatch.setenv(name, value)
    message = Anthropic(auth_token=demo.paid_key).messages.create(
        model="gpt-4o-mini", max_tokens=100, messages=MESSAGES
    )
    with genai.Client(api_key=demo.paid_key) as client:
        generated = client.models.generate_content(model="gemini-2.0-flash", contents="hi")

    assert isinstance(message.content[0], TextBlock)
    assert "demo upstream" in message.content[0].text
    assert "demo upstream" in (generated.text or "")


def test_the_balance_shows_what_a_request_cost_to_the_nano(demo: FareboxProcess) -> None:
    before = balance(demo, demo.paid_key)
    answer = ask(demo, demo.paid_key)
    after = balance(demo, demo.paid_key)

    usage = answer.json()["usage"]
    cost_nano = usage["prompt_tokens"] * 1050 + usage["completion_tokens"] * 4200
    assert nano(answer.headers["x-farebox-cost"]) == cost_nano > 0
    assert nano(after["balanceUsed"]) - nano(before["balanceUsed"]) == cost_nano
    assert nano(before["balanceAvailable"]) - nano(after["balanceAvailable"]) == cost_nano
    assert nano(after["balanceTotal"]) == 10 * 10**9
    assert after["balanceHeld"] == "0"


def test_the_status_says_that_a_demo_answers(demo: FareboxProcess) -> None:
    assert http.get(f"{demo.url}/status.json").json()["demo"] is True
    assert "Demo upstream" in http.get(f"{demo.url}/status").text
    assert http.get(f"{demo.url}/readyz").status_code == 200


def test_what_is_secret_is_readable_by_its_owner_only(demo: FareboxProcess) -> None:
    data = demo.data_dir
    for name in ("secrets.json", "admin.json", "first-run.json"):
        assert (data / name).stat().st_mode & 0o077 == 0, name
    assert data.stat().st_mode & 0o077 == 0


def test_a_second_service_on_the_same_data_is_refused_in_one_sentence(demo: FareboxProcess) -> None:
    second = FareboxProcess(demo.data_dir, demo=True)
    second.launch()

    assert second.exit_code() != 0
    assert "another farebox is running on" in second.errors
    assert "Traceback" not in second.errors
    assert "ready" not in second.output
    assert http.get(f"{demo.url}/readyz").status_code == 200


def test_a_port_that_is_taken_is_said_and_leaves_no_children(demo: FareboxProcess, tmp_path: Path) -> None:
    second = FareboxProcess(tmp_path / "data", demo=True, port=int(demo.url.rpartition(":")[2]))
    second.launch()
    code = second.exit_code()

    assert code != 0
    assert "address already in use" in second.errors
    assert "Traceback" not in second.errors
    assert "ready on" not in second.output
    assert not any(str(tmp_path) in command_line(pid) for pid in pids())


# ── ending and starting again ───────────────────────────────────────────────────────────────────────────────────────


def test_after_a_restart_keys_balances_and_counters_are_still_there(tmp_path: Path) -> None:
    with FareboxProcess(tmp_path / "data", demo=True) as service:
        first = (service.free_key, service.paid_key, service.admin_token)
        assert ask(service, service.paid_key).status_code == 200
        assert ask(service, service.free_key, model="gpt-4o").headers["x-ratelimit-remaining-requests"] == "4"
        assert ask(service, service.free_key, model="gpt-4o").headers["x-ratelimit-remaining-requests"] == "3"
        before = balance(service, service.paid_key)
        assert service.stop() == 0

    with FareboxProcess(tmp_path / "data", demo=True) as service:
        assert (service.free_key, service.paid_key, service.admin_token) == first
        assert balance(service, service.paid_key) == before
        assert ask(service, service.free_key, model="gpt-4o").headers["x-ratelimit-remaining-requests"] == "2"
        service.kill()

    with FareboxProcess(tmp_path / "data", demo=True) as service:  # and after a kill -9
        assert balance(service, service.paid_key) == before
        assert ask(service, service.free_key, model="gpt-4o").headers["x-ratelimit-remaining-requests"] == "1"


def test_sigterm_lets_a_running_stream_come_to_its_end_and_settles_it(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    pieces = [chunk(f"{number} ") for number in range(10)]
    upstream.script = [Send(sse_head()), Send(chunk("first "))]
    for piece in pieces:
        upstream.script += [Sleep(0.1), Send(piece)]
    upstream.script += [Send(chunk(finish="stop")), Send(usage_chunk(10, 11)), Send(DONE)]

    with FareboxProcess(tmp_path / "data", config=channel(upstream), env=ADMIN) as service:
        key = service.new_key(credit="1")
        with OpenAI(api_key=key["key"], base_url=service.base_url, max_retries=0) as client:
            stream = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
            text = next(iter(stream)).choices[0].delta.content or ""
            service.terminate()
            time.sleep(0.3)
            with pytest.raises(httpx.ConnectError):  # nobody new is let in
                http.get(f"{service.url}/healthz")
            text += "".join(each.choices[0].delta.content or "" for each in stream)
        assert service.exit_code() == 0

    assert text == "first " + "".join(f"{number} " for number in range(10))
    assert "Traceback" not in service.errors
    with FareboxProcess(tmp_path / "data", config=channel(upstream), env=ADMIN) as service:
        seen = service.account(key["account"])
        assert (seen["spent"], seen["held"]) == ("0.0000567", "0")


def test_a_second_sigterm_cuts_what_still_runs_and_bills_what_came(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    wait = WaitFor()
    upstream.script = [Send(sse_head()), Send(chunk("first")), wait]
    with FareboxProcess(tmp_path / "data", config=channel(upstream), env=ADMIN) as service:
        key = service.new_key(credit="1")
        with OpenAI(api_key=key["key"], base_url=service.base_url, max_retries=0) as client:
            stream = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
            pieces = iter(stream)
            assert next(pieces).choices[0].delta.content == "first"
            service.terminate()
            time.sleep(0.5)
            assert service.running
            service.terminate()
            with pytest.raises(APIError):  # never a clean end
                next(pieces)
        assert service.exit_code(5) == 0
        wait.event.set()

    with FareboxProcess(tmp_path / "data", config=channel(upstream), env=ADMIN) as service:
        seen = service.account(key["account"])
        assert seen["held"] == "0"
        assert 0 < nano(str(seen["spent"])) < 100 * 4200


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_its_children_are_gone_soon_after_it(tmp_path: Path, how: str) -> None:
    with FareboxProcess(tmp_path / "data", demo=True) as service:
        children = service.children()
        getattr(service, how)()

    assert any("dynoxide" in line for line in children.values())
    assert any("demo_upstream" in line for line in children.values())
    wait_until(lambda: not any(is_running(pid) for pid in children), within_s=GONE_S)


# ── settings ────────────────────────────────────────────────────────────────────────────────────────────────────────


def failed_start(tmp_path: Path, config: str | None = None, env: dict[str, str] | None = None) -> str:
    """What a start that must fail writes to stderr."""
    service = FareboxProcess(tmp_path / "data", config=config, env=env)
    service.launch()
    code = service.exit_code()
    assert code != 0
    assert "ready" not in service.output
    assert "Traceback" not in service.errors
    return service.errors


def test_all_that_is_wrong_in_the_settings_is_said_at_once(tmp_path: Path) -> None:
    errors = failed_start(
        tmp_path,
        """
        [store]
        endpoint = "ftp://nowhere"
        [admin]
        token = 7
        [free]
        reset_timezone = "Mars/Olympus"
        [signup]
        credit = "1e3"
        [network]
        trusted_proxies = ["not-an-address"]
        [nonsense]
        [[channel]]
        name = "a"
        vendor = "nobody"
        keys = []
        colour = "red"
        """,
    )

    for key in (
        "store.endpoint",
        "admin.token",
        "free.reset_timezone",
        "signup.credit",
        "network.trusted_proxies",
        "nonsense",
        "channel[0].vendor",
        "channel[0].keys",
        "channel[0].colour",
    ):
        assert any(key in line for line in errors.splitlines()), f"{key} is not in: {errors}"


def test_broken_toml_is_said_with_its_line(tmp_path: Path) -> None:
    assert "line 2" in failed_start(tmp_path, "[store]\nendpoint = \n")


def test_a_config_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert "missing.toml" in failed_start(tmp_path, env={"FAREBOX_CONFIG": str(tmp_path / "missing.toml")})


def test_a_secret_that_is_not_in_the_environment_is_named(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    config = channel(upstream).replace('"sk-up"', '"env:NO_SUCH_SECRET", "env:NOR_THIS"')
    errors = failed_start(tmp_path, config)

    assert "NO_SUCH_SECRET" in errors
    assert "NOR_THIS" in errors
    assert "channel[0].keys" in errors


def test_no_value_of_a_secret_is_printed(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    config = channel(upstream, weight="heavy").replace('"sk-up"', '"env:GOOD_SECRET", "sk-in-the-file"')
    errors = failed_start(tmp_path, config, {"GOOD_SECRET": "sk-the-value"})

    assert "channel[0].weight" in errors
    assert "sk-the-value" not in errors
    assert "sk-in-the-file" not in errors


@pytest.mark.parametrize("name", ["FAREBOX_CLOCK_OFFSET_S", "FAREBOX_CLOCK_FILE"])
def test_a_shifted_clock_is_refused_in_production(tmp_path: Path, name: str) -> None:
    assert name in failed_start(tmp_path, env={"FAREBOX_ENV": "production", name: "60"})


def test_an_offset_that_is_no_number_is_said(tmp_path: Path) -> None:
    assert "FAREBOX_CLOCK_OFFSET_S" in failed_start(tmp_path, env={"FAREBOX_CLOCK_OFFSET_S": "tomorrow"})


def test_production_with_the_true_clock_starts_and_has_no_admin_api_without_a_token(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    config = channel(upstream) + '\n[admin]\ntoken = "too-short"\n'
    with FareboxProcess(tmp_path / "data", config=config, env={"FAREBOX_ENV": "production"}) as service:
        assert http.get(f"{service.url}/readyz").status_code == 200
        headers = {"authorization": "Bearer too-short"}
        assert http.get(f"{service.url}/admin/v1/audit", headers=headers).status_code == 404
        assert http.get(f"{service.url}/status.json").json() == {
            "demo": False,
            "channels": [{"name": "scripted", "vendor": "openai", "demo": False}],
        }
        assert service.output.splitlines() == [
            f"farebox ready on {service.url}",
            f"  base_url      {service.base_url}",
            f"  Anthropic     ANTHROPIC_BASE_URL={service.url}",
            f"  Gemini        GOOGLE_GEMINI_BASE_URL={service.url}",
        ]


def test_tomorrow_the_quota_is_fresh(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    clock = tmp_path / "clock"
    config = channel(upstream) + "\n[free.groups]\ngpt-4o = 2\n"
    env = {**ADMIN, "FAREBOX_CLOCK_FILE": str(clock)}
    with FareboxProcess(tmp_path / "data", config=config, env=env) as service:
        key = service.new_key(kind="free", credit=None)["key"]
        assert [ask(service, key, model="gpt-4o").status_code for _ in range(3)] == [200, 200, 429]
        clock.write_text(str(DAY_S))
        assert ask(service, key, model="gpt-4o").headers["x-ratelimit-remaining-requests"] == "1"
        clock.write_text("0")
        assert ask(service, key, model="gpt-4o").status_code == 429


def test_a_fixed_offset_shifts_the_whole_service(tmp_path: Path) -> None:
    with FareboxProcess(tmp_path / "data", demo=True, env={"FAREBOX_CLOCK_OFFSET_S": str(400 * DAY_S)}) as service:
        made = service.new_key(expires_at="2020-01-01T00:00:00Z")
        shown = service.admin("GET", f"/keys/{made['id']}").json()

    assert int(shown["created_at"][:4]) >= time.gmtime().tm_year + 1


def test_a_store_of_the_operators_own_is_used_and_no_other_is_started(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    with StoreProcess(tmp_path / "own.sqlite") as store:
        wait_until(lambda: _accepts(store.endpoint))
        config = f'{channel(upstream)}\n[store]\nendpoint = "{store.endpoint}"\n'
        with FareboxProcess(tmp_path / "one", config=config, env=ADMIN) as service:
            made = service.new_key(credit="1")
            assert ask(service, made["key"]).status_code == 200
            assert not any("dynoxide" in line for line in service.children().values())
            assert service.stop() == 0
        with FareboxProcess(tmp_path / "one", config=config, env=ADMIN) as service:
            assert balance(service, made["key"])["balanceUsed"] == "0.0000315"
    assert not (tmp_path / "one" / "store.sqlite").exists()


def test_a_store_that_is_not_there_ends_the_start_in_one_sentence(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    config = f'{channel(upstream)}\n[store]\nendpoint = "http://127.0.0.1:9"\n'
    assert "the store does not answer" in failed_start(tmp_path, config)


def _accepts(endpoint: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(endpoint.rpartition(":")[2]))) == 0


def test_a_database_that_is_none_ends_the_start_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "store.sqlite").write_bytes(b"this is no database" * 100)

    assert "the embedded store ended while it started" in failed_start(tmp_path)
