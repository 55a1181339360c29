"""What the READMEs say to set is all that the official SDKs need."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from anthropic import Anthropic
from google import genai
from openai import OpenAI

from tests.fakes.service import RunningFarebox
from tests.fakes.upstream import ScriptedUpstream, chat_completion, json_answer

ROOT = Path(__file__).resolve().parents[2]
SETTING = re.compile(r"`([A-Z_]+)=([^`]*)`")


@pytest.fixture(params=["README.md", "README.zh-CN.md"])
def environment(
    request: pytest.FixtureRequest, farebox: RunningFarebox, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's table, with this service's address and a key of its own in it."""
    key = farebox.new_key(credit="1").text
    settings = SETTING.findall((ROOT / request.param).read_text("utf-8"))
    assert len(settings) == 6
    for name, value in settings:
        monkeypatch.setenv(name, value.replace("http://127.0.0.1:8787", farebox.url).replace("sk-fb-…", key))
    upstream.script = json_answer(chat_completion("Here I am."))


@pytest.mark.usefixtures("environment")
def test_openais_sdk_needs_no_more_than_the_readme_says() -> None:
    with OpenAI() as client:
        answer = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}])
    assert answer.choices[0].message.content == "Here I am."


@pytest.mark.usefixtures("environment")
def test_anthropics_sdk_needs_no_more_than_the_readme_says() -> None:
    with Anthropic() as client:
        answer = client.messages.create(model="gpt-4.1", max_tokens=100, messages=[{"role": "user", "content": "hi"}])
    assert [block.text for block in answer.content if block.type == "text"] == ["Here I am."]


@pytest.mark.usefixtures("environment")
def test_googles_sdk_needs_no_more_than_the_readme_says() -> None:
    with genai.Client() as client:
        answer = client.models.generate_content(model="gpt-4o-mini", contents="hi")
    assert answer.text == "Here I am."
