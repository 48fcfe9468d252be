"""The hand-off, searched whole: which way of freeing pages is wrong, which gets stuck, which is right.

Method: breadth-first search over tests/model_check/handoff.py, so that every path printed is a shortest one.
"""

from tests.model_check.handoff import Handoff, Haste, Model, Part, Policy
from tests.model_check.search import Verdict, explore


def check(model: Model) -> Verdict[Handoff]:
    verdict = explore(
        model.start(),
        successors=model.successors,
        is_wrong=model.is_wrong,
        is_settled=model.is_settled,
        max_states=400_000,
    )
    print(model.policy, verdict)
    return verdict


def test_freeing_a_page_on_abort_lets_one_request_overwrite_another_within_a_few_dozen_states() -> None:
    verdict = check(Model(policy=Policy.FREE_ON_ABORT, num_requests=2, num_pages=1))
    assert verdict.wrong == ("reserve 0", "offer 0", "abort 0", "reserve 1", "land 0")
    assert verdict.num_states <= 48


def test_waiting_for_the_sender_is_right_while_nobody_crashes() -> None:
    verdict = check(Model(policy=Policy.DEFER, num_requests=2, num_pages=1))
    assert verdict.wrong is None
    assert verdict.stuck is None


def test_waiting_for_the_sender_is_stuck_for_ever_once_prefill_crashed() -> None:
    mortals = frozenset({Part.PREFILL})
    verdict = check(Model(policy=Policy.DEFER, num_requests=1, num_pages=1, max_crashes=1, mortals=mortals))
    assert verdict.wrong is None
    assert verdict.stuck == ("reserve 0", "offer 0", "prefill crashes")


def test_a_lease_that_does_not_close_the_channel_is_as_wrong_as_freeing_on_abort() -> None:
    verdict = check(Model(policy=Policy.LEASE, num_requests=2, num_pages=1))
    assert verdict.wrong == ("reserve 0", "offer 0", "abort 0", "lease ends", "reserve 1", "land 0")


def test_drain_and_lease_is_never_wrong_and_never_stuck_over_more_than_100_000_states() -> None:
    verdict = check(Model(policy=Policy.DRAIN_LEASE, num_requests=2, num_pages=2, max_crashes=3, max_attempts=3))
    assert verdict.wrong is None
    assert verdict.stuck is None
    assert verdict.num_states > 100_000


def test_a_third_request_in_line_for_one_page_is_served_or_ended_too() -> None:
    verdict = check(Model(policy=Policy.DRAIN_LEASE, num_requests=3, num_pages=1, max_crashes=1))
    assert verdict.wrong is None
    assert verdict.stuck is None


def test_pages_that_travel_in_two_groups_of_layers_are_never_taken_for_whole_too_early() -> None:
    verdict = check(
        Model(policy=Policy.DRAIN_LEASE, num_requests=2, num_pages=1, max_crashes=2, max_attempts=2, num_groups=2)
    )
    assert verdict.wrong is None
    assert verdict.stuck is None


def test_whoever_counts_only_the_last_layers_runs_on_half_a_page() -> None:
    """Groups of one transfer may land in any order, or the first may be lost."""
    verdict = check(
        Model(
            policy=Policy.DRAIN_LEASE,
            num_requests=1,
            num_pages=1,
            max_crashes=1,
            num_groups=2,
            haste=Haste.LAST_GROUP,
        )
    )
    assert verdict.wrong is not None


def test_whoever_keeps_layers_of_an_older_attempt_mixes_two_computations() -> None:
    verdict = check(
        Model(
            policy=Policy.DRAIN_LEASE,
            num_requests=1,
            num_pages=1,
            max_crashes=2,
            num_groups=2,
            haste=Haste.ANY_ATTEMPT,
        )
    )
    assert verdict.wrong is not None
