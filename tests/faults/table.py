"""What was hit, for people: scenario × fault → number of points."""

from __future__ import annotations

from collections import Counter

HITS: Counter[tuple[str, str]] = Counter()


def markdown() -> str:
    faults = sorted({fault for _, fault in HITS})
    scenarios = sorted({scenario for scenario, _ in HITS})
    lines = ["| scenario | " + " | ".join(faults) + " | all |", "|---" * (len(faults) + 2) + "|"]
    for scenario in scenarios:
        counts = [HITS[scenario, fault] for fault in faults]
        lines.append(f"| {scenario} | " + " | ".join(str(count or "·") for count in counts) + f" | {sum(counts)} |")
    sums = [sum(HITS[scenario, fault] for scenario in scenarios) for fault in faults]
    lines.append("| all | " + " | ".join(map(str, sums)) + f" | {sum(sums)} |")
    return "\n".join(lines) + "\n"
