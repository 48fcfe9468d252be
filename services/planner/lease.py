"""Who may set scales: the holder of a Lease. Pure; the times are our own, so no two clocks are compared.

A Lease that somebody else holds is free once it was not renewed for its duration, as seen here.
"""

from dataclasses import dataclass
from enum import StrEnum

DURATION_S = 15.0
"""Chosen: as Kubernetes' own controllers; a planner that dies is replaced after it."""


class Step(StrEnum):
    """What to do with the Lease now."""

    CREATE = "create"
    TAKE = "take"
    RENEW = "renew"
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """The Lease as read. `version` changes with every write of it."""

    holder: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The version that was seen last, and since when it has not changed."""

    version: str = ""
    since: float = 0.0


def next_step(lease: LeaseView | None, watched: Watched, *, me: str, now: float) -> tuple[Step, Watched]:
    """None: there is no Lease. What is answered is only an attempt: the write that follows may find a newer version."""
    if lease is None:
        return Step.CREATE, Watched(since=now)
    if lease.version != watched.version:
        watched = Watched(version=lease.version, since=now)
    if lease.holder == me:
        return Step.RENEW, watched
    if not lease.holder or now - watched.since >= DURATION_S:
        return Step.TAKE, watched
    return Step.WAIT, watched
