"""Ownership changes: the net of what happened, in runs that follow their chains."""

from hypothesis import given
from hypothesis import strategies as st

from common.core.ids import PrefixHash
from common.kv.ownership import OwnershipChanges, OwnershipLog


def name(number: int) -> PrefixHash:
    return PrefixHash(number.to_bytes(32, "big"))


def test_a_chain_published_page_by_page_is_one_run_however_it_is_interleaved() -> None:
    log = OwnershipLog()
    log.publish(name(1), None)
    log.publish(name(11), None)
    log.publish(name(2), name(1))
    log.publish(name(12), name(11))
    log.publish(name(3), name(2))
    assert log.drain().published == ((name(1), name(2), name(3)), (name(11), name(12)))


def test_a_run_continues_a_chain_whose_beginning_was_told_before() -> None:
    log = OwnershipLog()
    log.publish(name(1), None)
    log.drain()
    log.publish(name(2), name(1))
    log.publish(name(3), name(2))
    assert log.drain().published == ((name(2), name(3)),)


def test_two_branches_of_one_chain_are_two_runs() -> None:
    log = OwnershipLog()
    log.publish(name(1), None)
    log.publish(name(2), name(1))
    log.publish(name(3), name(1))
    assert log.drain().published == ((name(1), name(2)), (name(3),))


def test_what_comes_and_goes_between_two_drains_is_not_told() -> None:
    log = OwnershipLog()
    log.publish(name(1), None)
    log.publish(name(2), name(1))
    log.publish(name(3), name(2))
    log.withdraw(name(2))
    assert log.drain() == OwnershipChanges(published=((name(1),), (name(3),)))
    assert log.drain().is_empty


def test_what_goes_and_comes_back_stays_told() -> None:
    log = OwnershipLog()
    log.publish(name(1), None)
    log.drain()
    log.withdraw(name(1))
    log.publish(name(1), None)
    assert log.drain().is_empty


@given(toggles=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40))
def test_a_directory_that_applies_every_drain_knows_exactly_what_is_owned(toggles: list[tuple[int, bool]]) -> None:
    log, owned, told = OwnershipLog(), set[PrefixHash](), set[PrefixHash]()
    for number, drains in toggles:
        prefix = name(number)
        if prefix in owned:
            owned.discard(prefix)
            log.withdraw(prefix)
        else:
            owned.add(prefix)
            log.publish(prefix, name(number - 1) if number else None)
        if drains:
            changes = log.drain()
            published = [prefix for run in changes.published for prefix in run]
            assert not set(published) & set(changes.withdrawn)
            assert set(changes.withdrawn) <= told
            assert not set(published) & told
            told = told - set(changes.withdrawn) | set(published)
            assert told == owned
