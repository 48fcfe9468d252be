"""Policies to compare: the production one, the production one with half of its choices taken away, and simple ones.

Every policy answers a route for the facts of a request and a view of the fleet, or None when nobody can take it now.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from common.core.worker import Role
from services.router.classify import Facts
from services.router.policy import Decision, PolicySettings, Route, Routes, can_take, choose
from services.router.view import FleetView, WorkerView

Policy = Callable[[Facts, FleetView], Route | None]


class PolicyName(StrEnum):
    """What `--policy` takes."""

    COST_MODEL = "cost-model"
    ALWAYS_LOCAL = "always-local"
    ALWAYS_REMOTE = "always-remote"
    ROUND_ROBIN = "round-robin"
    LEAST_LOAD = "least-load"
    LONGEST_PREFIX = "longest-prefix"


def make_policy(name: PolicyName, settings: PolicySettings) -> Policy:
    """A policy with its own memory, fresh."""
    match name:
        case PolicyName.COST_MODEL:
            return lambda facts, view: _route(choose(facts, view, settings))
        case PolicyName.ALWAYS_LOCAL:
            return make_policy(PolicyName.COST_MODEL, replace(settings, routes=Routes.LOCAL))
        case PolicyName.ALWAYS_REMOTE:
            return make_policy(PolicyName.COST_MODEL, replace(settings, routes=Routes.REMOTE))
        case PolicyName.ROUND_ROBIN:
            return RoundRobin()
        case PolicyName.LEAST_LOAD:
            return least_load
        case PolicyName.LONGEST_PREFIX:
            return longest_prefix
        case _:
            assert_never(name)


def _route(decision: Decision | None) -> Route | None:
    return decision.route if decision else None


@dataclass(slots=True)
class RoundRobin:
    """One after the other, whatever they hold and do."""

    turn: int = 0

    def __call__(self, facts: Facts, view: FleetView) -> Route | None:
        able = _able(facts, view)
        if not able:
            return None
        self.turn += 1
        return _on(able[self.turn % len(able)], view)


def least_load(facts: Facts, view: FleetView) -> Route | None:
    """The fewest prompt tokens ahead, then the fewest sequences."""
    able = _able(facts, view)
    return _on(min(able, key=_load), view) if able else None


def longest_prefix(facts: Facts, view: FleetView) -> Route | None:
    """Whoever holds most of the prompt, whatever else it has to do."""
    able = _able(facts, view)
    if not able:
        return None
    return _on(min(able, key=lambda worker: (-facts.cached_tokens(worker.worker.worker), worker.worker.worker)), view)


def _able(facts: Facts, view: FleetView) -> list[WorkerView]:
    """Readers first: where there are prefill workers, they are what such a policy balances."""
    decodes = [worker for worker in view.eligible(Role.DECODE) if can_take(worker, facts)]
    prefills = [worker for worker in view.eligible(Role.PREFILL) if worker.has_room]
    return prefills if prefills and decodes else decodes


def _on(reader: WorkerView, view: FleetView) -> Route:
    """A prefill worker hands over to the decode worker with the fewest sequences; others keep what they read."""
    if reader.role is Role.DECODE:
        return Route(decode=reader.worker)
    target = min(view.eligible(Role.DECODE), key=lambda worker: (worker.num_sequences, worker.worker.worker))
    return Route(decode=target.worker, prefill=reader.worker)


def _load(worker: WorkerView) -> tuple[int, int, str]:
    return worker.backlog_tokens, worker.num_sequences, worker.worker.worker
