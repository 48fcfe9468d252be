"""The counted pages against the page cache that serves: same hits, same evictions, same counts after every move."""

import random
from dataclasses import dataclass

import pytest

from common.core.ids import PageRef, PrefixHash, RequestId, SequenceId, TokenId
from common.core.request import Priority
from common.kv.cache import PageCache
from common.kv.pool import PagePool
from common.kv.prefix import PrefixIndex
from services.simulator.context import Context
from services.simulator.holders import Holders
from services.simulator.pages import CountedPages
from services.simulator.timeline import Timeline

PAGE = 4


@dataclass
class Twin:
    """One context in both worlds."""

    names: tuple[int, ...]
    refs: list[PageRef]
    registered: int
    counted: Context


def hashes(names: tuple[int, ...]) -> list[PrefixHash]:
    return [PrefixHash(name.to_bytes(32, "little")) for name in names]


def tokens(names: tuple[int, ...], extra: int = 0) -> list[TokenId]:
    return [TokenId(name) for name in names for _ in range(PAGE)] + [TokenId(0)] * extra


class Pair:
    """The cache that serves and its stand-in, moved together."""

    def __init__(self, total: int) -> None:
        self.cache = PageCache(PagePool(total), PrefixIndex(), page_size=PAGE)
        self.holders = Holders(Timeline())
        self.slot = self.holders.open()
        self.counted = CountedPages(total=total, slot=self.slot, holders=self.holders)
        self.count = 0

    def begin(self, names: tuple[int, ...]) -> Twin | None:
        """A prompt of full pages and one token more is matched, and gets its missing pages."""
        self.count += 1
        refs = list(self.cache.match(hashes(names), tokens(names)))
        context = Context(
            SequenceId(RequestId(str(self.count)), 0),
            page_names=names,
            prompt_tokens=len(names) * PAGE + 1,
            arrived=0.0,
            deadline=1.0,
            priority=Priority.STANDARD,
        )
        context.begin(self.counted, PAGE)
        assert context.pages_held == len(refs), f"{context.pages_held} pages found instead of {len(refs)}"
        missing = len(names) + 1 - len(refs)
        fresh = self.cache.allocate(missing)
        assert self.counted.allocate(missing) is (fresh is not None)
        if fresh is None:
            self.cache.release(refs)
            context.give_back(self.counted)
            return None
        context.pages_held += missing
        return Twin(names, [*refs, *fresh], len(refs), context)

    def finish(self, twin: Twin) -> None:
        """It is computed: its full pages get their names."""
        for index in range(twin.registered, len(twin.names)):
            name = hashes(twin.names)[index]
            self.cache.register(twin.refs[index], name, tokens(twin.names[index : index + 1]))
        twin.counted.num_pending = 0
        twin.counted.name_full(self.counted, PAGE)

    def leave(self, twin: Twin) -> None:
        self.cache.release(twin.refs)
        twin.counted.give_back(self.counted)

    def check(self, known: set[int]) -> None:
        assert self.counted.counts() == self.cache.counts()
        assert self.counted.evictions == self.cache.counters().evictions
        for name in known:
            held = self.cache.match(hashes((name,)), tokens((name,)))
            self.cache.release(held)
            if held:  # looking made it the most recently used: do the same on the other side
                self.counted.retain((name,))
                self.counted.release((name,), 0)
            assert bool(held) == bool(self.counted.find((name,))), f"page {name}"
            assert bool(held) == bool(self.holders.runs((name,))), f"page {name} in the holders"


@pytest.mark.parametrize("seed", range(6))
def test_counted_pages_do_what_the_cache_does(seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    pair, twins, known = Pair(24), list[Twin](), set[int]()
    for _ in range(300):
        if twins and chance.random() < 0.45:
            twin = twins.pop(chance.randrange(len(twins)))
            if chance.random() < 0.8:
                pair.finish(twin)
            pair.leave(twin)
        else:
            stem = chance.randrange(5)
            names = tuple(1 + stem * 10 + step for step in range(chance.randrange(1, 9)))
            known.update(names)
            if (made := pair.begin(names)) is not None:
                twins.append(made)
                if chance.random() < 0.5:
                    pair.finish(made)
                    made.registered = len(names)
        pair.check(known if chance.random() < 0.1 else set())
    pair.check(known)
