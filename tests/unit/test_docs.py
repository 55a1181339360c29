"""The docs say what the code does: tables, links, and the two READMEs side by side."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from farebox.adapters.catalog_files import load_catalog
from farebox.bootstrap import VENDOR_HAS_ADDRESS
from farebox.cli import main
from farebox.dialects.wires import WIRES
from farebox.domain.outcome import RULES, markdown
from farebox.domain.quota import FreeLimits
from farebox.domain.receipts import arithmetic_errors
from farebox.http.errors import ANTHROPIC_TYPES, GEMINI_STATUSES, SHAPES
from farebox.http.keys_app import NewKey
from farebox.relay.endpoints import METHODS, PATHS
from farebox.settings import CHANNEL_KEYS, Sections
from farebox.settings import read as read_settings
from farebox.vendors import VENDORS

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("layers/*/*.md")])
REFERENCE = ("docs/reference.md", "docs/topup.md")
READMES = ("README.md", "README.zh-CN.md")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^(#{1,6}) +(.+)$", re.MULTILINE)
# Put together here, so that this file does not name what it looks for.
REGISTRIES = re.compile(
    "|".join((r"\bpypi\.", r"python[h]osted", r"npmjs\.(?:org|com)", r"registry\.(?:npm|yarn)")), re.IGNORECASE
)
MACHINE_PATHS = re.compile(r"(?<![\w.~}$)-])/(?:" + "|".join(("work", "root", "home")) + r")/")
BINARY = {".png", ".ico", ".woff2", ".gz", ".zip", ".mp3"}


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def rows(text: str, first_head: str) -> list[list[str]]:
    """The body of the table whose first column is headed so, cell by cell."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {first_head} |"):
            next(lines)
            break
    else:
        pytest.fail(f"there is no table with a column {first_head!r}")
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@cache
def tracked() -> tuple[Path, ...]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    paths = [ROOT / name for name in listed.split("\0") if name]
    return tuple(path for path in paths if path.is_file() and path.suffix not in BINARY)


def test_billing_prints_the_outcome_table() -> None:
    table = rows(read("docs/billing.md"), "ending")
    expected = [
        [str(ending), f"`{rule.outcome}`", rule.caller, rule.figure, "back" if rule.unit_back else "kept"]
        for ending, rule in RULES.items()
    ]
    assert table == expected
    assert markdown() in read("docs/billing.md")


def test_the_receipt_in_billing_adds_up() -> None:
    (example,) = code_blocks(read("docs/billing.md"), "json")
    assert arithmetic_errors(json.loads(example)) == []


def test_the_verifying_snippet_in_billing_is_python() -> None:
    (snippet,) = code_blocks(read("docs/billing.md"), "python")
    compile(snippet, "docs/billing.md", "exec")


def test_the_reference_lists_every_error_once_with_its_status() -> None:
    told = [(int(status), code.strip("`")) for page in REFERENCE for status, code, _ in rows(read(page), "status")]
    assert Counter(told) == Counter((shape.status, shape.code) for shape in SHAPES.values())


def test_the_reference_says_how_each_dialect_names_each_status() -> None:
    told = {
        int(status): (set(re.findall(r"`(\w+)`", openai)), anthropic.strip("`"), gemini.strip("`"))
        for status, openai, anthropic, gemini in rows(read("docs/reference.md"), "HTTP")
    }
    openai_types: dict[int, set[str]] = {}
    for shape in SHAPES.values():
        openai_types.setdefault(shape.status, set()).add(shape.type)
    assert told == {
        status: (types, ANTHROPIC_TYPES.get(status, "api_error"), GEMINI_STATUSES.get(status, "INTERNAL"))
        for status, types in openai_types.items()
    }


def test_the_reference_lists_every_vendor_with_its_address() -> None:
    told = {row[0].strip("`"): row[1] for row in rows(read("docs/reference.md"), "vendor")}
    assert set(told) == set(VENDORS)
    for vendor in VENDORS.values():
        assert told[vendor.name].startswith(f"`{vendor.base_url}`" if vendor.base_url else "none")


def test_the_reference_lists_every_operation_that_can_be_estimated() -> None:
    (told,) = re.findall(
        r"The names are those that receipts have as `endpoint`: (.+?)\. ", read("docs/reference.md"), re.DOTALL
    )
    assert set(re.findall(r"`([^`]+)`", told)) == set(WIRES)


def test_the_reference_lists_every_relayed_endpoint() -> None:
    routes = " ".join(row[0] for row in rows(read("docs/reference.md"), "route"))
    assert [path for path in PATHS if f"`POST {path}`" not in routes] == []
    assert [method for method in METHODS if f":{method}`" not in routes] == []


def test_the_reference_lists_every_member_of_a_new_key() -> None:
    told = {row[0].strip("`") for row in rows(read("docs/reference.md"), "member")}
    assert told == set(NewKey.model_fields) - {"limits"}


def test_the_reference_lists_every_setting_with_its_default() -> None:
    table = {row[0].strip("`"): row[1] for page in REFERENCE for row in rows(read(page), "key")}
    free = FreeLimits()
    assert {key.split(".")[0] for key in table} == set(Sections) - {"github"}
    assert {key for key in table if key.startswith("channel.")} == {f"channel.{key}" for key in CHANNEL_KEYS}
    assert table["free.requests_per_key"] == str(free.requests_per_key)
    assert table["free.requests_per_address"] == str(free.requests_per_address)
    assert table["free.input_tokens_max"] == str(free.input_tokens_max)
    assert table["free.groups.<group>"] == ", ".join(f"`{name}` {limit}" for name, limit in free.groups)
    assert all(f"`{vendor}`" in read("docs/reference.md") for vendor in VENDORS)


def test_the_reference_lists_every_verb_of_the_command_line() -> None:
    told = {
        verb
        for page in REFERENCE
        for row in rows(read(page), "verb of `.venv/bin/farebox`")
        for verb in re.findall(r"`([^`]+)`", row[0])
    }
    verbs = set()
    for name, command in main.commands.items():
        below = getattr(command, "commands", {})
        verbs |= {f"{name} {verb}" for verb in below} or {name}
    assert told == verbs


@pytest.mark.parametrize("name", READMES)
def test_the_configuration_in_a_readme_is_accepted(name: str) -> None:
    (example,) = code_blocks(read(name), "toml")
    settings = read_settings(tomllib.loads(example), lambda _: "s" * 20, vendors=VENDOR_HAS_ADDRESS)
    assert settings.free == FreeLimits()
    assert settings.channels[0].rename == {"gpt-4o-ca": "gpt-4o"}


@pytest.mark.parametrize("name", READMES)
def test_a_readme_names_the_free_models_with_their_limits(name: str) -> None:
    limits = FreeLimits()
    (head,) = re.findall(r"^\| (?:models|模型) \|.*$", read(name), flags=re.MULTILINE)
    table = {cells[0]: cells[1] for cells in rows(read(name), head.split("|")[1].strip())}
    groups: dict[str, set[str]] = {}
    for model in load_catalog().models.values():
        if model.free_group is not None:
            groups.setdefault(model.free_group, set()).add(model.id)
    told = [
        (set(re.findall(r"`([^`]+)`", models)), int(re.findall(r"\d+", limit)[0]))
        for models, limit in table.items()
        if "`" in models
    ]
    assert sorted((sorted(models), limit) for models, limit in told) == sorted(
        (sorted(models), limits.group_limit(group)) for group, models in groups.items()
    )


def test_the_two_readmes_have_one_structure() -> None:
    english, chinese = (read(name) for name in READMES)

    def structure(text: str) -> list[str]:
        return [marks for marks, _ in HEADING.findall(without_code(text))]

    def targets(text: str) -> list[str]:
        return sorted(target for target in LINK.findall(text) if target not in READMES)

    def commands(text: str) -> list[list[str]]:
        languages = ("bash", "python", "js", "toml")
        blocks = [block for language in languages for block in code_blocks(text, language)]
        # Comments are translated; what a shell or a parser sees is not.
        return [[re.split(r"\s+# ", line)[0].rstrip() for line in block.splitlines()] for block in blocks]

    assert structure(english) == structure(chinese)
    assert targets(english) == targets(chinese)
    assert commands(english) == commands(chinese)
    assert len(re.findall(r"^\|", english, re.MULTILINE)) == len(re.findall(r"^\|", chinese, re.MULTILINE))


@pytest.mark.parametrize("document", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    broken = []
    for target in LINK.findall(without_code(document.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        path = (document.parent / place).resolve() if place else document
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            broken.append(target)
    assert broken == []


def _anchors(path: Path) -> set[str]:
    titles = [title for _, title in HEADING.findall(without_code(path.read_text("utf-8")))]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_decisions_are_numbered_without_gaps_and_titled_by_their_number() -> None:
    files = sorted((ROOT / "docs" / "decisions").iterdir())
    assert [path.name[:5] for path in files] == [f"{number:04d}-" for number in range(1, len(files) + 1)]
    for path in files:
        text = path.read_text("utf-8")
        assert re.fullmatch(rf"# {path.name[:4]} \S.*", text.splitlines()[0])
        titles = [title for _, title in HEADING.findall(text)]
        assert {"Context", "Choice", "Rejected", "How to reverse"} <= set(titles), path.name


def test_decisions_that_the_code_names_exist() -> None:
    named = {
        number
        for path in tracked()
        if path.suffix in {".py", ".toml", ".sh", ".mk", ".yaml"}
        for number in re.findall(r"docs/decisions/(\d{4})", path.read_text("utf-8"))
    }
    existing = {path.name[:4] for path in (ROOT / "docs" / "decisions").iterdir()}
    assert named <= existing


def test_no_tracked_text_names_a_registry_or_a_path_of_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked()
        for pattern in (REGISTRIES, MACHINE_PATHS)
        for match in pattern.finditer(path.read_text("utf-8"))
    ]
    assert found == []
