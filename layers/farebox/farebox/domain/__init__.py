"""The pure heart: money, prices, usage, quotas, the ledger. No clock, no network, no environment."""
