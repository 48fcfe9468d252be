"""Goal: an answer goes on exactly where another worker stopped it. Method: two decode cores, pages carried by hand,
numbers of tokens around a page's border, every option that depends on earlier tokens; judged by the undisturbed run."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from common.core.clock import ManualClock
from common.core.events import TokensEmitted
from common.core.ids import RequestId, TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import TokenSampling, Work
from common.core.step import Draw
from common.engine.rule import TokenRule
from common.engine.telling import Outgoing
from common.transfer.messages import PageRun
from services.decode.messages import Departed, DepartedChoice
from services.decode.reservations import Opening
from tests.engine.relay import DecodeSide, make_decode
from tests.engine.rig import LAYOUT, generate, work
from tests.engine.test_constraint import StairRule, is_stair, ruled

PROMPT = list(range(9))
SHAPED = TokenSampling(
    temperature=0.9,
    max_tokens=14,
    min_tokens=4,
    ignore_eos=True,
    repetition_penalty=1.3,
    frequency_penalty=0.4,
    presence_penalty=0.2,
    logit_bias=((TokenId(7), 2.5),),
    allowed_ids=tuple(map(TokenId, range(3, 400))),
    bad_words=((TokenId(11),), (TokenId(7), TokenId(12))),
    logprobs=2,
)
RuleFor = Callable[[tuple[TokenId, ...]], TokenRule | None]


def no_rule(_emitted: tuple[TokenId, ...]) -> TokenRule | None:
    return None


@dataclass
class Move:
    """A worker that leaves, another one, and what a router hears of both. `rule`: by what was emitted before."""

    given: Work
    rule: RuleFor = no_rule
    clock: ManualClock = field(default_factory=ManualClock)
    tokens: dict[int, dict[int, TokenId]] = field(default_factory=dict)
    scores: dict[tuple[int, int], TokenLogprobs] = field(default_factory=dict)
    departed: list[Departed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.leaving = make_decode(self.clock)
        self.other = make_decode(self.clock)
        self.leaving.core.start_local(self.given, self.rule(()))

    def turn(self, side: DecodeSide) -> bool:
        self.clock.advance(0.001)
        did_work = side.core.advance()
        self.listen(side)
        return did_work

    def listen(self, side: DecodeSide) -> None:
        for event in side.core.take_events():
            if isinstance(event, Departed):
                self.departed.append(event)
            elif isinstance(event, Outgoing) and isinstance(event.event, TokensEmitted):
                self.take(event.event)

    def take(self, event: TokensEmitted) -> None:
        own = self.tokens.setdefault(event.choice, {})
        for index, token in enumerate(event.tokens, event.first_index):
            assert own.setdefault(index, token) == token, f"two tokens at index {index}"
        for index, told in enumerate(event.logprobs, event.first_index):
            assert self.scores.setdefault((event.choice, index), told) == told

    def output(self, choice: int) -> list[TokenId]:
        own = self.tokens.get(choice, {})
        assert sorted(own) == list(range(len(own))), f"a gap in {sorted(own)}"
        return [own[index] for index in range(len(own))]

    def write_until(self, count: int) -> None:
        """On the worker that leaves, until every choice has so many tokens."""
        while any(len(self.output(choice.index)) < count for choice in self.given.choices):
            assert self.turn(self.leaving)

    def hand_over(self) -> Departed:
        stopped = self.leaving.core.hand_over(self.given.request, self.given.attempt)
        self.listen(self.leaving)
        departed = self.departed[-1]
        assert stopped == len(departed.choices)
        return departed

    def carry(self, part: DepartedChoice) -> None:
        """As a router reserves and a fetch brings it: pages that are missing, then the finale."""
        assert part.kept is not None
        choice = next(each for each in self.given.choices if each.index == part.choice)
        emitted = tuple(self.output(part.choice))
        assert part.num_tokens == len(emitted)
        name = RequestId(f"{self.given.request}.{part.choice}")
        moved = replace(self.given, request=name, attempt=2, choices=(choice,), emitted=emitted[:-1])
        assert part.kept.context == moved.context
        promise = self.other.core.reserve(moved, self.rule(emitted[:-1]))
        total = part.kept.finale.total_pages
        assert promise.total_pages == total
        run = PageRun(first_page=promise.held_pages, num_pages=total - promise.held_pages)
        data = memoryview(bytearray(run.num_pages * LAYOUT.page_bytes))
        assert part.kept.loan.enter()
        self.leaving.core.retention.copy_out(part.kept.loan, run, data)
        assert part.kept.loan.leave()
        if run.num_pages:
            assert self.other.land(promise.permit, run, data)
        first = {each.choice: Draw(token=each.token, logprobs=each.logprobs) for each in part.kept.finale.first_tokens}
        self.other.core.complete(promise.reservation, 2, Opening(first_tokens=first))
        self.leaving.core.retention.release(part.kept.name, self.given.attempt)

    def finish(self) -> None:
        while self.turn(self.other):
            continue

    def check_idle(self) -> None:
        for side in (self.leaving, self.other):
            side.rig.cache.audit()
            counts = side.rig.cache.counts()
            assert counts.promised == counts.referenced == 0, counts


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 13])
def test_a_moved_answer_equals_the_undisturbed_one(count: int, n: int) -> None:
    given = replace(work("r", PROMPT, n=n), sampling=SHAPED)
    move = Move(given)
    move.write_until(count)
    departed = move.hand_over()
    assert not move.turn(move.leaving), "nothing is written any more where it left"
    for part in departed.choices:
        move.carry(part)
    move.finish()
    expected = generate(given)
    assert {choice: move.output(choice) for choice in expected} == expected
    assert set(move.scores) == {(choice, index) for choice in expected for index in range(14)}, "each token's was told"
    assert move.other.core.counters.local_prompt_tokens == 0
    move.check_idle()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_constraint_goes_on_in_the_state_it_had(count: int) -> None:
    move = Move(ruled("r", n=2), rule=lambda emitted: StairRule(len(emitted)))
    move.write_until(count)
    for part in move.hand_over().choices:
        move.carry(part)
    move.finish()
    for choice in (0, 1):
        assert is_stair(move.output(choice))
    move.check_idle()


def test_what_has_not_begun_leaves_without_pages_and_all_its_choices_are_told() -> None:
    move = Move(replace(work("r", list(range(40)), n=3), sampling=SHAPED))
    move.turn(move.leaving)  # a chunk of the prompt is read
    stopped = move.leaving.core.hand_over(move.given.request, 1)
    move.listen(move.leaving)
    assert stopped == 1
    assert [(part.choice, part.num_tokens, part.kept) for part in move.departed[-1].choices] == [
        (0, 0, None),
        (1, 0, None),
        (2, 0, None),
    ]
    move.check_idle()


def test_a_second_question_finds_nothing_more() -> None:
    move = Move(work("r", PROMPT))
    move.write_until(3)
    move.hand_over()
    assert move.leaving.core.hand_over(move.given.request, 1) == 0
    assert len(move.departed) == 1


@pytest.mark.parametrize("how", ["choice", "request", "deadline", "cut"])
def test_pages_that_nobody_fetches_are_let_go(how: str) -> None:
    move = Move(replace(work("r", PROMPT, deadline=50.0), sampling=SHAPED))
    move.write_until(3)
    move.hand_over()
    core = move.leaving.core
    assert move.leaving.rig.cache.counts().referenced > 0
    match how:
        case "choice":
            core.end_choices(move.given.request, 1, (0,))
        case "request":
            core.cancel(move.given.request, 1)
        case "deadline":
            move.clock.advance(60.0)
            core.advance()
        case _:
            core.cut()
    move.check_idle()
