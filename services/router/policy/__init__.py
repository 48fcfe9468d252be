"""Where a request goes. Pure: facts and a view of the fleet in, a decision with its losing candidates out.

Every route is weighed in seconds: what the request waits, and what it makes others wait. docs/routing.md tabulates the
terms. No clock, no chance, no I/O here: the same inputs give the same decision, bit for bit, wherever it is replayed.
"""

from services.router.policy.choose import can_take, choose, choose_prefill, choose_writer
from services.router.policy.route import Candidate, Decision, Route
from services.router.policy.settings import POLICY_VERSION, PolicySettings, Routes

__all__ = [
    "POLICY_VERSION",
    "Candidate",
    "Decision",
    "PolicySettings",
    "Route",
    "Routes",
    "can_take",
    "choose",
    "choose_prefill",
    "choose_writer",
]
