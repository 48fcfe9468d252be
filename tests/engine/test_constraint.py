"""A constraint in the batch: each token consumed exactly once, by whichever worker, and never a token it refuses."""

from dataclasses import dataclass, replace

import pytest
import torch

from common.core.errors import InternalError, Reason
from common.core.events import TokensEmitted, WorkFailed
from common.core.ids import PageRef, SequenceId, TokenId
from common.core.request import FinishReason, TokenSampling, Work
from common.core.step import Draw, Sample
from common.engine.plan import BatchPlan, Extend
from common.engine.rule import leaves_any
from common.engine.shaper import shape_logits
from services.decode.reservations import Promise
from tests.engine.relay import Relay
from tests.engine.rig import EOS, Rig, make_rig, work

WIDTH, LENGTH = 6, 5
"""At each of LENGTH places one of WIDTH tokens may come; after the last one nothing but the end."""


@dataclass
class StairRule:
    """At place i the tokens 10 i to 10 i + WIDTH - 1 may come. Refuses all others, and any token twice."""

    place: int = 0
    is_broken: bool = False

    @property
    def is_over(self) -> bool:
        return self.place >= LENGTH

    def mask(self) -> bytes:
        if self.is_broken:
            raise InternalError(message="the rule is broken")
        bits = 1 << EOS if self.is_over else ((1 << WIDTH) - 1) << 10 * self.place
        return bits.to_bytes(64, "little")

    def accept(self, token: TokenId) -> bool:
        is_allowed = bool(self.mask()[token // 8] >> token % 8 & 1)
        self.place += 1
        return is_allowed

    def fork(self) -> "StairRule":
        return StairRule(self.place)


def is_stair(tokens: list[TokenId], length: int = LENGTH) -> bool:
    return len(tokens) == length and all(10 * i <= token < 10 * i + WIDTH for i, token in enumerate(tokens))


def ruled(name: str, **fields: object) -> Work:
    return work(name, list(range(200, 209)), temperature=1.0, max_tokens=20, **fields)  # type: ignore[arg-type]


def send(relay: Relay, given: Work) -> Promise:
    promise = relay.decode.core.reserve(given, StairRule())
    relay.forward(given, promise, StairRule())
    return promise


def alone(given: Work) -> dict[int, list[TokenId]]:
    """One worker, every choice to its end."""
    rig = make_rig()
    output: dict[int, list[TokenId]] = {choice.index: [] for choice in given.choices}
    place = len(given.emitted)
    alive: list[SequenceId] = [rig.batch.add(given, arrived=0.0, rule=StairRule(place))]
    rig.batch.begin(alive[0])
    while alive:
        plan = BatchPlan(extend=tuple(Extend(sequence=each, num_tokens=rig.batch[each].num_pending) for each in alive))
        drawn = rig.batch.run(plan).drawn
        rig.batch.proceed(drawn)
        for draw in drawn:
            output[draw.choice.index].append(draw.token)
            assert draw.finish in (None, FinishReason.STOP)
        alive = [draw.sequence for draw in drawn if draw.finish is None]
    assert rig.cache.counts().referenced == 0
    return output


def test_the_last_token_ends_the_choice_and_is_no_stop_token() -> None:
    relay = Relay()
    relay.decode.core.start_local(ruled("r"), StairRule())
    relay.run()
    assert is_stair(relay.output("r"))
    last = [event for event in relay.heard if isinstance(event, TokensEmitted)][-1]
    assert last.finish is FinishReason.STOP
    assert last.stop_token is None
    relay.check_idle()


def test_a_handed_over_first_token_is_consumed_once() -> None:
    relay = Relay()
    send(relay, ruled("r"))
    relay.run()
    assert is_stair(relay.output("r"))
    assert relay.output("r") == alone(ruled("r"))[0]
    relay.check_idle()


def test_choices_part_and_each_keeps_its_own_state() -> None:
    relay = Relay()
    send(relay, ruled("r", n=3))
    relay.run()
    outputs = [relay.output("r", choice) for choice in range(3)]
    assert all(map(is_stair, outputs))
    assert len({tuple(output) for output in outputs}) == 3
    assert outputs == list(alone(ruled("r", n=3)).values())
    relay.check_idle()


@pytest.mark.parametrize("told", range(1, LENGTH))
def test_another_worker_goes_on_where_the_first_one_died(told: int) -> None:
    """The rule that arrives with the work has accepted what was emitted; the text is the undisturbed one."""
    whole = alone(ruled("r"))[0]
    again = ruled("r", attempt=2, emitted=tuple(whole[:told]))
    assert whole[:told] + alone(again)[0] == whole


def test_preemption_keeps_the_state() -> None:
    rig = make_rig()
    sequence = rig.batch.add(ruled("r"), arrived=0.0, rule=StairRule())
    rig.batch.begin(sequence)
    output: list[TokenId] = []
    for turn in range(LENGTH):
        if turn == 2:
            rig.batch.run(BatchPlan(preempt=(sequence,)))
            rig.batch.begin(sequence)
        pending = rig.batch[sequence].num_pending
        drawn = rig.batch.run(BatchPlan(extend=(Extend(sequence=sequence, num_tokens=pending),))).drawn
        rig.batch.proceed(drawn)
        output += [draw.token for draw in drawn]
    assert output == alone(ruled("r"))[0]


def test_a_first_token_that_is_refused_fails_the_work_and_gives_every_page_back() -> None:
    """As of an older attempt, or of a prefill worker gone wrong. Never an answer that looks well."""
    relay = Relay()
    given = ruled("r")
    promise = relay.decode.core.reserve(given, StairRule(place=1))
    relay.forward(given, promise)
    relay.run()
    failures = [event for event in relay.heard if isinstance(event, WorkFailed)]
    assert [(each.reason, each.reservation_stands) for each in failures] == [(Reason.INTERNAL, False)]
    assert relay.decode.core.counters.refused_tokens == 1
    relay.check_idle()


def test_a_rule_that_cannot_go_on_fails_its_row_alone() -> None:
    rig = make_rig()
    good = rig.batch.add(ruled("good"), arrived=0.0, rule=StairRule())
    bad = rig.batch.add(ruled("bad"), arrived=0.0, rule=StairRule(is_broken=True))
    for each in (good, bad):
        rig.batch.begin(each)
    outcome = rig.batch.run(BatchPlan(extend=tuple(Extend(sequence=each, num_tokens=9) for each in (good, bad))))
    assert outcome.failed == (bad,)
    assert [draw.source for draw in outcome.drawn] == [good]


def with_sampling(given: Work, **fields: object) -> Work:
    return replace(given, sampling=replace(given.sampling, **fields))  # type: ignore[arg-type]


def test_a_complete_answer_ends_whatever_min_tokens_and_ignore_eos_say() -> None:
    given = with_sampling(ruled("r"), min_tokens=LENGTH + 3, ignore_eos=True)
    assert is_stair(alone(given)[0])


def test_max_tokens_cuts_an_answer_that_is_not_complete() -> None:
    relay = Relay()
    relay.decode.core.start_local(with_sampling(ruled("r"), max_tokens=3), StairRule())
    relay.run()
    last = [event for event in relay.heard if isinstance(event, TokensEmitted)][-1]
    assert last.finish is FinishReason.LENGTH
    assert is_stair(relay.output("r"), length=3)


def test_bans_give_way_where_nothing_else_may_come() -> None:
    """Every token of the first place is banned, so the bans do not count there; half of the second place is."""
    bad_words = tuple((TokenId(token),) for token in (*range(WIDTH), 10, 11, 12))
    output = alone(with_sampling(ruled("r"), bad_words=bad_words))[0]
    assert is_stair(output)
    assert output[1] >= 13


def _first_row(rig: Rig, given: Work) -> Sample:
    sequence = rig.batch.add(given, arrived=0.0, rule=StairRule(place=LENGTH))
    held = rig.batch[sequence]
    held.pages = [PageRef(page, 0) for page in range(3)]  # type: ignore[arg-type]
    return held.row(9, page_size=4).samples[0]


def test_the_end_is_banned_under_ignore_eos_unless_it_is_all_there_is() -> None:
    sample = _first_row(make_rig(), ruled("r"))
    assert sample.banned == ()
    assert sample.mask[EOS // 8] >> EOS % 8 & 1


def test_masked_logits_never_win() -> None:
    """Rows with and without a mask side by side; the vocabulary is no multiple of eight."""
    logits = torch.arange(30, dtype=torch.float32).repeat(3, 1)
    masks = ((1 << 3 | 1 << 29).to_bytes(8, "little"), b"", (1 << 0).to_bytes(8, "little"))
    samples = [Sample(seed=1, position=1, sampling=TokenSampling(temperature=0.0), mask=mask) for mask in masks]
    shaped = shape_logits(logits, samples)
    assert shaped.isfinite().sum(dim=1).tolist() == [2, 30, 1]
    assert shaped[0, [3, 29]].tolist() == [3.0, 29.0]
    assert logits.isfinite().all()
    assert torch.equal(shape_logits(logits[:1], samples[:1]), shaped[:1])


def test_what_is_left_after_bans() -> None:
    mask = (0b1010).to_bytes(4, "little")
    assert leaves_any(mask, ())
    assert leaves_any(mask, (TokenId(1),))
    assert not leaves_any(mask, (TokenId(1), TokenId(3)))


def test_a_draw_is_what_travels() -> None:
    """The state is no part of the hand-over: tokens are."""
    assert set(Draw.__slots__) == {"token", "logprobs"}
