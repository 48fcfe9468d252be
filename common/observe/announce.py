"""What a process tells the supervisor that started it: one JSON line on stdout per change of state.

Logs go to stderr. A process that nobody supervises prints the same lines, which are readable enough.
"""

import json
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    """LOADING -> READY -> DRAINING -> (exit). FAILED instead, when the process cannot start."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """`address` is the gRPC listener, `metrics` the HTTP one. `detail` is for a person."""

    name: str
    phase: Phase
    address: str = ""
    metrics: str = ""
    detail: str = ""
    facts: dict[str, float] = field(default_factory=dict)


def announce(announcement: Announcement) -> None:
    """Print it, at once. A supervisor that is gone, or a disk that is full, hears nothing; the process goes on."""
    with suppress(OSError, ValueError):
        sys.stdout.write(json.dumps(asdict(announcement)) + "\n")
        sys.stdout.flush()


def read_announcement(line: str) -> Announcement | None:
    """What a child printed, or None when the line is something else (a library that prints, say)."""
    try:
        facts = json.loads(line)
        return Announcement(**{**facts, "phase": Phase(facts["phase"])})
    except (ValueError, TypeError, KeyError):
        return None
