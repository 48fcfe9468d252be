"""One request's context on one machine: the numbers that schedulers look at, and the pages that it holds."""

from collections.abc import Iterable, Sequence

from common.core.cost.work import StepWork, extend_pairs
from common.core.ids import SequenceId, TenantId
from common.core.request import Priority
from common.engine.kindred import is_mostly_coming, shared_pages
from common.engine.plan import SequenceView
from services.simulator.pages import CountedPages
from services.simulator.trace import answer_name

ANSWER_PAGES = 1 << 20
"""More than any answer has."""


class Context:
    """Reads like a `SequenceView`, and is the very object that the schedulers see: nothing is copied per step.

    Writer: its machine. `named` are the registered pages that it reads, in order; the others are nobody else's.
    `private_pages` come back to the pool when it is preempted. `is_awaited`: it waits for pages of another machine,
    `num_coming` with those that it has already.
    `num_found`: tokens that it will find when it begins, as far as was known when it came.
    `owner`: the index of its request, which pages of the answer are named after.
    """

    wants_scores = False
    """No trace asks for its prompts' log probabilities."""

    __slots__ = (
        "answer_tokens",
        "arrived",
        "deadline",
        "id",
        "is_awaited",
        "is_decoding",
        "is_export",
        "last_token_at",
        "named",
        "needs_copy",
        "num_cached",
        "num_coming",
        "num_found",
        "num_pending",
        "num_preemptions",
        "num_registered",
        "num_tokens",
        "owner",
        "page_names",
        "pages_held",
        "priority",
        "private_pages",
        "prompt_tokens",
        "tenant",
    )

    def __init__(
        self,
        identity: SequenceId,
        *,
        page_names: tuple[int, ...],
        prompt_tokens: int,
        arrived: float,
        deadline: float,
        priority: Priority,
        answer_tokens: int = 1,
        owner: int | None = None,
        is_export: bool = False,
    ) -> None:
        self.id = identity
        self.page_names = page_names
        self.prompt_tokens = prompt_tokens
        self.arrived = arrived
        self.deadline = deadline
        self.priority = priority
        self.num_tokens = prompt_tokens
        self.num_pending = prompt_tokens
        self.num_cached = 0
        self.num_coming = 0
        self.num_found = 0
        self.num_preemptions = 0
        self.pages_held = 0
        self.private_pages = 0
        self.num_registered = 0
        self.named: list[int] = []
        self.needs_copy = False
        self.is_decoding = False
        self.tenant = TenantId("")
        self.answer_tokens = answer_tokens
        self.owner = owner
        self.is_export = is_export
        self.is_awaited = False
        self.last_token_at = 0.0

    pages_to_grow = SequenceView.pages_to_grow

    @property
    def num_computed(self) -> int:
        return self.num_tokens - self.num_pending

    @property
    def num_unread(self) -> int:
        """As `Sequence.num_unread`."""
        return max(self.num_pending - self.num_found, min(self.num_pending, 1))

    @property
    def is_read(self) -> bool:
        return self.num_computed >= self.prompt_tokens

    def foresee(self, pages: CountedPages, others: Iterable["Context"], page_size: int) -> None:
        """As `Holdings.foresee`: what it would find now, and what others that are being read will leave for it."""
        usable = self.page_names[: (self.num_tokens - 1) // page_size]
        unread = [each.page_names for each in others if not each.is_read]
        self.num_found = max(pages.find(usable), shared_pages(usable, unread)) * page_size

    def is_brought(self, pages: CountedPages, others: Iterable["Context"], page_size: int) -> bool:
        """As `PrefixDesk.brings`: whether what it lacks is on its way for one of the others."""
        coming = [each.page_names[: each.num_coming] for each in others if each.is_awaited]
        usable = self.page_names[: (self.num_tokens - 1) // page_size]
        return bool(coming) and is_mostly_coming(usable, pages.find(usable), coming)

    def begin(self, pages: CountedPages, page_size: int) -> None:
        """Find what the cache holds, as `Batch.begin` does: at least one token is left to compute."""
        usable = self.page_names[: (self.num_tokens - 1) // page_size]
        self.hold(pages, usable[: pages.find(usable)], page_size)
        self.num_pending = self.num_tokens - self.num_cached
        self.num_found = 0
        self.note_pending()

    def note_pending(self) -> None:
        """What is left to compute changed. With one token that was drawn, the context decodes."""
        self.is_decoding = self.num_pending == 1 and self.num_tokens > self.prompt_tokens

    def hold(self, pages: CountedPages, found: tuple[int, ...], page_size: int) -> None:
        """Take these leading pages out of the cache."""
        pages.retain(found)
        self.named = list(found)
        self.pages_held = self.num_registered = len(found)
        self.num_cached = len(found) * page_size

    def promise(self, pages: CountedPages, wanted: int) -> bool:
        """Pages to come on top of what is held, up to `wanted` in all. False when there are too few."""
        if not pages.promise(wanted - self.pages_held):
            return False
        self.private_pages = wanted - self.pages_held
        self.pages_held = wanted
        return True

    def name_full(self, pages: CountedPages, page_size: int) -> None:
        """Pages that became full get their names, as `Batch` does it: where a name is taken, the page stays private."""
        full = min(self.num_computed // page_size, len(self.page_names))
        for name in self.page_names[self.num_registered : full]:
            if pages.register(name):
                self.named.append(name)
        self.num_registered = max(full, self.num_registered)

    def grow(self, pages: CountedPages, end: int, page_size: int) -> bool:
        """Slots up to `end` become writable. False, and nothing changed, when no page is left."""
        missing = -(-end // page_size) - self.pages_held
        if missing > 0:
            if not pages.allocate(missing):
                return False
            self.pages_held += missing
            self.private_pages += missing
        return True

    def grow_by(self, pages: CountedPages, num_tokens: int, page_size: int) -> bool:
        """The same for the next so many pending tokens."""
        return self.grow(pages, self.num_tokens - self.num_pending + num_tokens, page_size)

    def preempt(self, pages: CountedPages, page_size: int) -> None:
        """It gives every page back, and is read again later."""
        self.end(pages, page_size)
        self.num_pending = self.num_tokens
        self.num_preemptions += 1
        self.is_decoding = False

    def end(self, pages: CountedPages, page_size: int) -> None:
        """Every page goes back. What was full, the answer's own pages included, stays cached."""
        self.page_names += self._answer_names(self.num_computed // page_size)
        self.name_full(pages, page_size)
        self.give_back(pages)

    def _answer_names(self, end: int) -> tuple[int, ...]:
        """Names that no prompt has, for pages up to `end`. A trace does not tell who continues an answer, so only its
        own context looks for them."""
        assert self.owner is not None, f"{self.id} is nobody's"
        return tuple(answer_name(self.owner * ANSWER_PAGES + page) for page in range(len(self.page_names), end))

    def give_back(self, pages: CountedPages) -> None:
        """Every page goes back; the named ones stay cached."""
        pages.release(self.named, self.pages_held - len(self.named))
        self.named = []
        self.pages_held = self.private_pages = self.num_registered = 0


def step_work(extended: Sequence[tuple[Context, int]], *, decode_rows: int = 0, decode_context: int = 0) -> StepWork:
    """What a step computes, as `StepWork.of` counts it: a row of one token is a decode, whatever it was planned as."""
    tokens = pairs = 0
    for context, num_tokens in extended:
        start = context.num_tokens - context.num_pending
        if num_tokens == 1:
            decode_rows += 1
            decode_context += start + 1
        else:
            tokens += num_tokens
            pairs += extend_pairs(num_tokens, start)
    return StepWork(extend_tokens=tokens, extend_pairs=pairs, decode_rows=decode_rows, decode_context=decode_context)
