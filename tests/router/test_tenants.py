"""Goal: what tenants are counted for, who is forgotten, and where a newcomer begins. Method: the pure line."""

import pytest

from common.config.tenants import TenantTerms
from common.core.ids import RequestId, TenantId
from services.router.admission.bucket import BURST_S, Bucket
from services.router.admission.limits import TenantLimits
from services.router.admission.line import CREDIT
from services.router.admission.roster import Roster
from services.router.admission.tenants import STRANGERS, Tenants
from services.router.admission.ticket import Usage
from tests.router.test_line import Room, line, ticket


def test_what_was_placed_before_is_counted_once() -> None:
    """A second leg brings the prompt and what was generated as its context: the tenant has paid for both."""
    limited, room, name = line("admission.tenants=small: requests_per_s=4, tokens_per_s=100"), Room(), RequestId("a")
    legs = (
        ticket(name, "small", num_tokens=100, max_new_tokens=50),
        ticket(name, "small", num_tokens=110, max_new_tokens=40, has_run=True),
    )
    tenant, reserved = limited.tenants.find(TenantId("small"), 0.0), list[float]()
    for leg, generated in zip(legs, (10, 20), strict=True):
        limited.offer(leg, 0.0, chance=0.0)
        assert limited.take(0.0, room) is not None
        reserved.append(tenant.tokens.level)
        limited.leave(name, Usage(generated_tokens=generated), 0.0)
    assert reserved == [100 * BURST_S - 150, 100 * BURST_S - 110 - 40], "what it may still use, and no prompt"
    assert tenant.tokens.level == 100 * BURST_S - (100 + 10 + 20)
    assert tenant.requests.level == 4 * BURST_S - 1


def test_what_is_given_back_to_a_full_bucket_is_not_kept() -> None:
    bucket = Bucket(0.0)
    bucket.take(150.0, rate=100.0, now=0.0)
    bucket.take(-150.0, rate=100.0, now=10.0)
    assert bucket.level == 100.0 * BURST_S


@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_who_comes_back_begins_beside_those_that_wait_with_a_little_credit(weight: float) -> None:
    """A pause saves up no more than a few requests, whatever the tenant's weight."""
    fair, room = line(f"admission.tenants=back: weight={weight}"), Room()
    for number in range(200):
        fair.offer(ticket(f"busy-{number}", "busy"), 0.0, chance=0.99)
    for _ in range(150):
        fair.take(0.0, room)
    for number in range(50):
        fair.offer(ticket(f"back-{number}", "back"), 0.0, chance=0.99)
    taken = [fair.take(0.0, room) for _ in range(40)]
    tenants = [each.tenant for each in taken if each is not None]
    first_of_busy = tenants.index(TenantId("busy"))
    assert first_of_busy == pytest.approx(CREDIT + weight, abs=1.0)
    share = tenants[first_of_busy:].count(TenantId("back")) / (len(tenants) - first_of_busy)
    assert share == pytest.approx(weight / (weight + 1), abs=0.06)


@pytest.mark.parametrize("debt", ["work", "requests", "tokens"])
def test_who_owes_something_is_not_forgotten(debt: str) -> None:
    """Forgotten, it would come back as a newcomer: a name asked under now and then would wash its owner clean."""
    terms = TenantTerms(requests_per_s=1.0, tokens_per_s=1.0)
    tenants = Tenants(limits=TenantLimits(default=terms, max_tenants=1), roster=Roster.alone())
    debtor = tenants.find(TenantId("debtor"), 0.0)
    match debt:
        case "work":
            debtor.charge(1.0)
        case "requests":
            debtor.requests.take(1.0, rate=1.0, now=0.0)
        case _:
            debtor.tokens.take(1.0, rate=1.0, now=0.0)
    assert tenants.find(TenantId("other"), 0.0).id == STRANGERS
    tenants.raise_floor([debtor])
    assert tenants.find(TenantId("other"), 2.0).id == "other", "all is paid"
