"""Anthropic, by its own door. https://docs.anthropic.com/en/api/messages"""

from farebox.vendors.vendor import Door, Vendor, header

ANTHROPIC = Vendor(
    name="anthropic",
    base_url="https://api.anthropic.com/v1",
    doors=(
        Door(
            "anthropic",
            paths={"messages": "/messages", "messages.count_tokens": "/messages/count_tokens"},
            auth=header("x-api-key"),
            # The older version: bridges send sampling parameters, which 2026-10-21 refuses. A caller's own goes first.
            headers={"anthropic-version": "2023-06-01"},
            passed=("anthropic-version", "anthropic-beta"),
        ),
    ),
    key_refusals=(b"credit balance is too low",),
)
