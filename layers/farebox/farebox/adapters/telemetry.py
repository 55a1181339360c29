"""Logs and metrics by Powertools: one structured line a request, metrics in CloudWatch's embedded format.

Only names and numbers from an allow-list leave this file: no text, no address, no key.
"""

from __future__ import annotations

from collections.abc import Mapping

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

ALLOWED = frozenset(
    {
        "channel",
        "cost_nano",
        "endpoint",
        "job",
        "key_id",
        "kind",
        "model",
        "outcome",
        "overrun_nano",
        "request_id",
        "took_ms",
        "count",
        "error",
    }
)
NAMESPACE = "Farebox"


class PowertoolsTelemetry:
    """`service` names the function. Metrics are only written where CloudWatch reads them (`metrics=True`)."""

    def __init__(self, service: str, *, metrics: bool, level: str = "INFO") -> None:
        self._logger = Logger(service=service, level=level)
        self._service = service
        self._metrics = metrics

    def relayed(self, facts: Mapping[str, str | int]) -> None:
        self._logger.info("relayed", extra=_kept(facts))
        if self._metrics:
            self._count("Requests", facts, MetricUnit.Count, 1, took_ms=int(facts["took_ms"]))

    def trouble(self, what: str, facts: Mapping[str, str | int]) -> None:
        self._logger.error(what, extra=_kept(facts))
        if self._metrics:
            self._count("Trouble", {"outcome": what}, MetricUnit.Count, 1)

    def _count(
        self, name: str, facts: Mapping[str, str | int], unit: MetricUnit, value: int, took_ms: int | None = None
    ) -> None:
        metrics = EphemeralMetrics(namespace=NAMESPACE, service=self._service)
        metrics.add_dimension(name="outcome", value=str(facts["outcome"]))
        metrics.add_metric(name=name, unit=unit, value=value)
        if took_ms is not None:
            metrics.add_metric(name="Took", unit=MetricUnit.Milliseconds, value=took_ms)
        metrics.flush_metrics()


class NoTelemetry:
    """Says nothing: for local use, where nobody reads it."""

    def relayed(self, facts: Mapping[str, str | int]) -> None:
        """Nothing."""

    def trouble(self, what: str, facts: Mapping[str, str | int]) -> None:
        """Nothing."""


def _kept(facts: Mapping[str, str | int]) -> dict[str, str | int]:
    return {name: value for name, value in facts.items() if name in ALLOWED}
