"""What is known of a request that a live cluster served, beyond what a trace tells."""

from dataclasses import dataclass

from services.simulator.policies import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """`max_tokens`: what its client allowed, which router and workers were told. `policy`: places it as it was placed
    then; None: placed anew, by the policy that is asked about."""

    max_tokens: int
    policy: Policy | None = None
