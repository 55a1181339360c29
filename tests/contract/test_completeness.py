"""An untested vendor cannot merge: each vendor, door and operation of the tables has recordings and a contract."""

from __future__ import annotations

import pytest

from farebox.dialects.bridges import BRIDGES
from farebox.dialects.wires import WIRES
from farebox.relay.count_tokens import COUNTINGS
from farebox.vendors import VENDORS
from tests.contract.recordings import CASES, ERRORS, FOLDER, contract
from tests.contract.routes import ROUTES

DOORS = [
    (vendor.name, door.dialect, operation)
    for vendor in VENDORS.values()
    for door in vendor.doors
    for operation in door.paths
]


def test_every_vendor_has_recordings_and_every_recording_a_vendor() -> None:
    assert {folder.name for folder in FOLDER.iterdir() if folder.is_dir()} == set(VENDORS)


def test_every_operation_says_what_its_vendors_must_have_recorded() -> None:
    assert set(CASES) == set(WIRES) | set(COUNTINGS)


@pytest.mark.parametrize(("vendor", "dialect", "operation"), DOORS)
def test_every_operation_behind_every_door_is_recorded(vendor: str, dialect: str, operation: str) -> None:
    told = contract(vendor)
    names = {recording.name for recording in told.recordings}
    missing = [case for case in CASES[operation] if not any(f"{operation}.{each}" in names for each in case.split("|"))]

    assert missing == []
    assert dialect in told.auth
    assert operation in told.paths


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_file_has_facts_and_every_fact_a_file(vendor: str) -> None:
    files = {path.name for path in (FOLDER / vendor).iterdir()} - {"contract.toml"}
    facts = {recording.name for recording in contract(vendor).recordings}

    assert files == facts | set(ERRORS)


@pytest.mark.parametrize("vendor", VENDORS)
def test_no_contract_speaks_of_doors_that_are_not_there(vendor: str) -> None:
    assert set(contract(vendor).paths) == {operation for name, _, operation in DOORS if name == vendor}
    assert set(contract(vendor).auth) == {dialect for name, dialect, _ in DOORS if name == vendor}


def test_every_operation_that_a_vendor_serves_and_every_bridge_is_walked() -> None:
    natives = {(route.vendor, route.wire.name) for route in ROUTES}
    counted = {(vendor, operation) for vendor, _, operation in DOORS if operation in COUNTINGS}

    assert natives | counted == {(vendor, operation) for vendor, _, operation in DOORS}
    assert {route.bridge for route in ROUTES if route.bridge} == set(BRIDGES.values())


def test_every_dialect_reaches_a_vendor_of_each_other_dialect_or_says_so() -> None:
    spoken = {(route.caller.dialect, route.door.dialect) for route in ROUTES}
    dialects = {wire.dialect for wire in WIRES.values()}

    # This pair has no bridge: Google has an OpenAI door as well, and Anthropic's callers go by that.
    without = {("anthropic", "gemini")}
    assert spoken | without == {(caller, vendor) for caller in dialects for vendor in dialects}
    assert not spoken & without
