"""The numbers that autoscalers read, by name: the same ones whichever way they are asked for.

deploy/rules.py records the same from Prometheus, for the modes in which that answers.
"""

from enum import StrEnum

from common.core.worker import Role
from services.planner.decide import Recommendation
from services.planner.load import Load


class Number(StrEnum):
    """Sums over the cluster, to be divided by a target per replica; but for the seconds, which are a value."""

    PREFILL_DESIRED = "prefill-desired-replicas"
    DECODE_DESIRED = "decode-desired-replicas"
    PREFILL_QUEUED_TOKENS = "prefill-queued-tokens"
    PREFILL_QUEUE_SECONDS = "prefill-queue-seconds"
    DECODE_KV_USAGE = "decode-kv-usage"
    DECODE_RUNNING_SEQUENCES = "decode-running-sequences"
    DECODE_ADMISSION_SECONDS = "decode-admission-seconds"


def number(name: Number, load: Load | None, recommendation: Recommendation | None) -> float | None:
    """None: not known. What is wanted is known, and held, while the load is not."""
    match name:
        case Number.PREFILL_DESIRED:
            return _desired(recommendation, Role.PREFILL)
        case Number.DECODE_DESIRED:
            return _desired(recommendation, Role.DECODE)
        case _:
            return None if load is None else _of_load(name, load)


def _desired(recommendation: Recommendation | None, role: Role) -> float | None:
    verdict = None if recommendation is None else recommendation.of(role)
    return None if verdict is None else float(verdict.desired)


def _of_load(name: Number, load: Load) -> float | None:
    reading, writing = load.reading, load.writing
    match name:
        case Number.PREFILL_QUEUED_TOKENS:
            return float(reading.backlog_tokens)
        case Number.PREFILL_QUEUE_SECONDS:
            return reading.queue_s
        case Number.DECODE_KV_USAGE:
            return writing.pages_used / writing.pages_each if writing.pages_each else None
        case Number.DECODE_RUNNING_SEQUENCES:
            return float(writing.sequences)
        case Number.DECODE_ADMISSION_SECONDS:
            # Nobody was placed lately: nobody waited, unless somebody does.
            return writing.admission_s if writing.admission_s is not None or writing.queued else 0.0
        case Number.PREFILL_DESIRED | Number.DECODE_DESIRED:
            raise AssertionError(f"{name} is no number of the load")
