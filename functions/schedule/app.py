"""The door of the jobs: events such as {"job": "sweep"} from the scheduler."""

from typing import Any

from farebox.on_lambda import schedule_job_from_environment

run = schedule_job_from_environment()


def handler(event: dict[str, Any], _context: object) -> Any:
    return run(event)
