"""Every famous bug, put back, is found: by the check named for it, and the table shows by which others.

Method: each check is a short story told to a cache over a mutant pool. The state machine of tests/kv/machine.py must
kill every mutant as well, except the one it cannot see: it never forges a hash.
"""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from common.core.errors import Fenced
from common.core.ids import PageRef, PrefixHash, TokenId
from common.kv.cache import PageCache
from common.kv.prefix import PrefixIndex
from tests.kv.machine import PageMachine
from tests.kv.mutants import MUTANTS, Mutant, TrustHash

CHECKS: dict[str, Callable[[PageCache], None]] = {}
TOKENS = [TokenId(1), TokenId(2)]
PREFIX = PrefixHash(bytes(32))
MACHINE = "the state machine"
MACHINE_EXAMPLES = 2000  # A ceiling: measured over six seeds each, mutants show within 4 to 257.


def named(name: str) -> Callable[[Callable[[PageCache], None]], Callable[[PageCache], None]]:
    """Put a check into the table under a sentence."""

    def enter(check: Callable[[PageCache], None]) -> Callable[[PageCache], None]:
        CHECKS[name] = check
        return check

    return enter


def make_cache(mutant: Mutant, num_pages: int = 4) -> PageCache:
    return mutant.cache(mutant.pool(num_pages), PrefixIndex(), page_size=len(TOKENS))


def take(refs: tuple[PageRef, ...] | None) -> tuple[PageRef, ...]:
    assert refs is not None, "no page was left"
    return refs


def remember(cache: PageCache) -> tuple[PageRef, ...]:
    """Leave one cached page behind."""
    refs = take(cache.allocate(1))
    cache.register(refs[0], PREFIX, TOKENS)
    cache.release(refs)
    return refs


@named("freed pages come back")
def check_freed(cache: PageCache) -> None:
    for _ in range(2):
        cache.release(take(cache.allocate(4)))
    assert cache.available() == 4


@named("a page comes back after its last writer")
def check_freed_after_write(cache: PageCache) -> None:
    refs = take(cache.promise(4))
    cache.begin_write(refs)
    cache.release(refs)
    cache.end_write(refs)
    assert cache.available() == 4


@named("no page has two owners")
def check_two_owners(cache: PageCache) -> None:
    cache.release(take(cache.allocate(2)))
    refs = [*take(cache.allocate(2)), *take(cache.allocate(2))]
    assert len({ref.page for ref in refs}) == 4


@named("no page is reused under a writer")
def check_writer(cache: PageCache) -> None:
    refs = take(cache.promise(1))
    cache.begin_write(refs)
    cache.release(refs)
    assert refs[0].page not in {ref.page for ref in take(cache.allocate(3))}


@named("late bytes are fenced")
def check_fence(cache: PageCache) -> None:
    refs = take(cache.promise(1))
    cache.release(refs)
    take(cache.promise(1))
    with pytest.raises(Fenced):
        cache.check(refs[0])


@named("a shared page outlives its first reader")
def check_shared(cache: PageCache) -> None:
    refs = take(cache.allocate(1))
    cache.retain(refs)
    cache.release(refs)
    assert cache.is_current(refs[0])


@named("an evicted prefix is not found")
def check_evicted(cache: PageCache) -> None:
    remember(cache)
    take(cache.allocate(4))
    assert cache.match([PREFIX], TOKENS) == ()


@named("an evicted prefix is withdrawn")
def check_withdrawn(cache: PageCache) -> None:
    remember(cache)
    cache.drain_changes()
    take(cache.allocate(4))
    assert cache.drain_changes().withdrawn == (PREFIX,)


@named("token ids are compared")
def check_tokens(cache: PageCache) -> None:
    remember(cache)
    assert cache.match([PREFIX], [TokenId(8), TokenId(9)]) == ()


@named("a page that is read is not evicted")
def check_busy(cache: PageCache) -> None:
    remember(cache)
    found = cache.match([PREFIX], TOKENS)
    assert cache.allocate(4) is None
    assert cache.is_current(found[0])


def run_machine(mutant: Mutant) -> None:
    """The state machine, generated from a fixed seed and not shrunk: here only the verdict counts."""
    machine = type("Mutated", (PageMachine,), {"make_pool": mutant.pool, "make_cache": mutant.cache})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=MACHINE_EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            print_blob=False,
        ),
    )


def is_killed(run: Callable[[], None]) -> bool:
    """A mutant may also break a check by any other failure than its assertion: it is dead all the same."""
    try:
        run()
    except (Exception, pytest.fail.Exception):  # noqa: BLE001  # see above
        return True
    return False


def killers_of(mutant: Mutant) -> list[str]:
    """Names of the checks that a mutant does not survive. The machine's own file shows that the truth survives it."""
    killers = [name for name, check in CHECKS.items() if is_killed(partial(check, make_cache(mutant)))]
    if mutant.cache is not TrustHash and is_killed(partial(run_machine, mutant)):
        killers.append(MACHINE)
    return killers


@pytest.mark.parametrize("name", CHECKS)
def test_the_true_pool_and_cache_pass_every_check(name: str) -> None:
    CHECKS[name](make_cache(Mutant(killer=name)))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_famous_bug_is_killed_by_the_check_named_for_it(mutant: Mutant) -> None:
    killers = killers_of(mutant)
    print(f"{mutant.name:24} killed by: {'; '.join(killers)}")
    assert mutant.killer in killers
    assert MACHINE in killers or mutant.cache is TrustHash
