"""One trace on a few machines, and the two ways that a pair of them has."""

from common.config.config import Config
from services.router.admission.limits import AdmissionLimits
from services.router.classify import Facts
from services.router.policy import Route
from services.router.view import FleetView
from services.simulator.cluster import ClusterShape
from services.simulator.outcome import Outcome
from services.simulator.playing import Play
from services.simulator.policies import Policy
from services.simulator.trace import Trace


def stay(_facts: Facts, view: FleetView) -> Route:
    """The first machine reads what it answers."""
    return Route(decode=view.workers[0].worker)


def hand_over(_facts: Facts, view: FleetView) -> Route:
    """The second machine reads what the first answers."""
    decode, prefill = (worker.worker for worker in view.workers)
    return Route(decode=decode, prefill=prefill)


def play(trace: Trace, shape: ClusterShape, policy: Policy) -> Outcome:
    return Play("test", policy, trace, shape, limits=AdmissionLimits.of(Config())).run()
