"""Money is whole nano-CA, and decimal text at the edges."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import farebox
from farebox.domain.money import NANO_PER_CA, format_ca, parse_ca

PACKAGE = Path(farebox.__file__).parent
CODE_WITHOUT_FLOATS = [*sorted((PACKAGE / "domain").glob("*.py")), PACKAGE / "adapters" / "catalog_files.py"]
NANO_MAX = 10**12 * NANO_PER_CA - 1
PLAIN = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("0", 0),
        ("0.000000001", 1),
        ("0.0175", 17_500_000),
        ("0.280", 280_000_000),
        ("1", NANO_PER_CA),
        ("30.00", 30 * NANO_PER_CA),
        ("999999999999.999999999", NANO_MAX),
    ],
)
def test_a_decimal_string_becomes_whole_nano_ca(text: str, nano: int) -> None:
    assert parse_ca(text) == nano


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (-500_000_000, "-0.5"),
        (NANO_PER_CA, "1"),
        (10 * NANO_PER_CA, "10"),
        (17_500_000, "0.0175"),
        (-1, "-0.000000001"),
        (10**21, "1000000000000"),
    ],
)
def test_text_is_plain_without_exponent_or_trailing_zeros(nano: int, text: str) -> None:
    assert format_ca(nano) == text


@given(st.integers(-NANO_MAX, NANO_MAX))
def test_what_is_written_is_read_back_as_the_same_amount(nano: int) -> None:
    assert parse_ca(format_ca(nano), signed=True) == nano


@given(st.integers())
def test_every_amount_is_written_as_plain_digits(nano: int) -> None:
    assert PLAIN.fullmatch(format_ca(nano))


@given(st.integers(0, 10**12 - 1), st.text("0123456789", max_size=9))
def test_trailing_zeros_do_not_change_an_amount(whole: int, decimals: str) -> None:
    short = f"{whole}.{decimals}" if decimals else str(whole)
    padded = f"{whole}.{decimals.ljust(9, '0')}"

    assert parse_ca(short) == parse_ca(padded)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        " 1",
        "1 ",
        "1\n",
        ".5",
        "5.",
        ".",
        "1.2.3",
        "1,5",
        "1_000",
        "007",
        "00",
        "+1",
        "--1",
        "- 1",
        "1e3",
        "1E-3",
        "0x10",
        "NaN",
        "nan",
        "inf",
        "Infinity",
        "1.0000000001",
        "1000000000000",
        "9" * 5000,
        "0." + "0" * 5000,
        "١٢",
        "１",
        "1.٥",
        "²",
        "1\x00",
        "CA 1",
    ],
)
def test_anything_but_plain_digits_is_refused(text: str) -> None:
    for signed in (False, True):
        with pytest.raises(ValueError, match="an amount must be plain decimal digits"):
            parse_ca(text, signed=signed)


@given(st.text())
def test_whatever_is_read_was_plain_ascii_digits(text: str) -> None:
    try:
        parse_ca(text, signed=True)
    except ValueError:
        return

    assert set(text) <= set("-.0123456789")


@pytest.mark.parametrize("text", ["-1", "-0.5", "-0"])
def test_a_sign_is_refused_unless_it_is_asked_for(text: str) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        parse_ca(text)

    assert parse_ca(text, signed=True) == -parse_ca(text[1:])


@pytest.mark.parametrize("number", [1, 0.5, None, True, b"1", ["1"]])
def test_a_number_is_no_amount_because_it_may_have_been_a_float(number: object) -> None:
    with pytest.raises(ValueError, match="must be a decimal string"):
        parse_ca(number)  # type: ignore[arg-type]


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(ValueError, match="plain decimal") as refusal:
        parse_ca("secret")

    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("file", CODE_WITHOUT_FLOATS, ids=lambda file: file.name)
def test_no_float_is_made_where_money_is_computed(file: Path) -> None:
    assert not re.search(r"\bfloat\(", file.read_text(encoding="utf-8"))
