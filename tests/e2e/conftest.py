"""A service in front of three vendors, each by its own dialect; one scripted upstream plays them all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from farebox.relay.call import Limits
from farebox.relay.channels import Channel
from farebox.settings import Settings
from farebox.vendors import VENDORS
from tests.fakes.service import ADMIN_TOKEN, RunningFarebox
from tests.fakes.upstream import ScriptedUpstream

CACHED = """
vendor = "anthropic"
tier = "official"
tokenizer = "o200k_base"
input_margin_percent = 40

[[model]]
id = "claude-with-cache-prices"
kind = "chat"
context_tokens = 200000
output_tokens_max = 64000
image_tokens_max = 1640
reasoning = true

[[model.price]]
from = "2025-05-01"
input_per_1k = "0.015"
output_per_1k = "0.075"
cached_input_per_1k = "0.0015"
cache_write_per_1k = "0.01875"
cache_write_1h_per_1k = "0.03"
"""
"""A model of Anthropic's whose cache has prices of its own: the catalog's have none yet."""
EMBEDDING = """
vendor = "google"
tier = "official"
tokenizer = "o200k_base"
input_margin_percent = 40

[[model]]
id = "gemini-embedding-001"
kind = "embedding"
context_tokens = 2048

[[model.price]]
from = "2025-05-01"
per_1k_tokens = "0.00105"
"""
"""An embedding of Google's own: the catalog has OpenAI's only."""
LISTS = {"cached.toml": CACHED, "embedding.toml": EMBEDDING}


@pytest.fixture(scope="session")
def _vendors(_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFarebox]:
    folder = tmp_path_factory.mktemp("vendors")
    for name, text in LISTS.items():
        (folder / name).write_text(text, "utf-8")
    settings = Settings(
        admin_token=ADMIN_TOKEN,
        trusted_proxies=("127.0.0.1",),
        catalog_files=tuple(str(folder / name) for name in LISTS),
    )
    bases = {"anthropic": "/v1", "openai": "/v1", "google": "/v1beta"}
    channels = tuple(
        Channel(
            name=name,
            vendor=VENDORS[name],
            base_url=f"http://127.0.0.1:{_upstream.port}{base}",
            keys=(f"sk-up-{name}", f"sk-up-{name}"),
        )
        for name, base in bases.items()
    )
    service = RunningFarebox(folder, _upstream.url, settings, limits=Limits(ping_s=0.2), channels=channels).start()
    yield service
    service.stop()


@pytest.fixture
def vendors(_vendors: RunningFarebox, upstream: ScriptedUpstream) -> RunningFarebox:
    """Anthropic's, OpenAI's and Google's models behind it. What rested in an earlier test is awake again."""
    _vendors.services.channels._rests_until_ms.clear()
    return _vendors
