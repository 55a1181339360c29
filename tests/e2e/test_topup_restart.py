"""Money that comes in survives what the service does not: kills, restarts, notices that come again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fakes.process import FareboxProcess, http
from tests.fakes.stripe_api import API_KEY, SECRET, FakeStripe, signed, wire

TOKEN = "admin-token-of-the-tests"


def tell(service: FareboxProcess, event: dict[str, object]) -> int:
    body = wire(event)
    headers = {"stripe-signature": signed(body, int(time.time()))}
    return http.post(f"{service.base_url}/webhooks/stripe", content=body, headers=headers).status_code


@pytest.mark.timeout(180)
def test_a_payment_and_a_code_are_one_credit_each_across_a_kill(tmp_path: Path) -> None:
    stripe = FakeStripe().start()
    config = f"""
[stripe]
api_key = "env:STRIPE_API_KEY"
webhook_secret = "env:STRIPE_WEBHOOK_SECRET"
base_url = "{stripe.url}"
"""
    env = {"STRIPE_API_KEY": API_KEY, "STRIPE_WEBHOOK_SECRET": SECRET, "FAREBOX_ADMIN_TOKEN": TOKEN}

    def service() -> FareboxProcess:
        return FareboxProcess(tmp_path / "data", config=config, env=env)

    try:
        with service() as first:
            made = first.new_key(credit="1")
            headers = {"authorization": f"Bearer {made['key']}"}
            asked = http.post(f"{first.base_url}/topup/checkout", json={"amount": "30"}, headers=headers)
            assert asked.status_code == 200, asked.text
            [code] = first.admin("POST", "/codes", {"value": "5"}).json()["codes"]
            paid = stripe.completed(asked.json()["order"])
            assert tell(first, paid) == 200
            assert http.post(f"{first.base_url}/redeem", json={"code": code}, headers=headers).status_code == 200
            first.kill()
        with service() as second:
            assert tell(second, paid) == 200
            assert http.post(f"{second.base_url}/redeem", json={"code": code}, headers=headers).status_code == 200
            assert second.account(made["account"])["balance"] == "36"
            assert tell(second, stripe.refunded(asked.json()["order"], 3000)) == 200
            assert second.account(made["account"])["balance"] == "6"
            assert second.admin("GET", "/audit").json()["violations"] == []
    finally:
        stripe.stop()
