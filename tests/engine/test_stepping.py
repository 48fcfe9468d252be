"""Steps ahead of the host: whatever the device does meanwhile, answers are those of a loop that waits for each."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from common.core.clock import ManualClock
from common.core.events import TokensEmitted, WorkFailed
from common.core.ids import RequestId, SequenceId, TokenId
from common.core.request import Work
from common.engine.outcome import BatchOutcome
from common.engine.plan import BatchPlan, Extend
from common.engine.stepper import Stepper
from services.decode.messages import Departed
from tests.engine.relay import DecodeSide, Relay, make_decode
from tests.engine.rig import DEVICES, Rig, generate, make_rig, work

AHEAD = pytest.mark.parametrize("device", DEVICES)


def prompt(length: int, start: int = 3) -> list[int]:
    return [(start + 13 * index) % 500 for index in range(length)]


class Ahead:
    """A stepper over a rig, decoding whatever is there; every outcome is gone on with at once."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.stepper = Stepper(rig.batch, is_ahead=rig.is_ahead)
        self.alive: list[SequenceId] = []
        self.outcomes: list[BatchOutcome] = []
        self.output: dict[SequenceId, list[TokenId]] = {}
        self.plans: list[BatchPlan] = []

    def start(self, given: Work) -> SequenceId:
        sequence = self.rig.batch.add(given, arrived=0.0)
        self.rig.batch.begin(sequence)
        self.alive.append(sequence)
        return sequence

    def plan(self) -> BatchPlan:
        views = [self.rig.batch.view(each) for each in self.alive if not self.rig.batch.is_ending(each)]
        plan = BatchPlan(extend=tuple(Extend(sequence=each.id, num_tokens=each.num_pending) for each in views))
        self.plans.append(plan)
        return plan

    def turn(self) -> None:
        for outcome in self.stepper.turn(self.plan):
            self.absorb(outcome)

    def absorb(self, outcome: BatchOutcome) -> None:
        self.outcomes.append(outcome)
        for sequence in outcome.failed:
            self.leave(sequence)
        self.rig.batch.proceed(outcome.drawn)
        for draw in outcome.drawn:
            self.output.setdefault(draw.sequence, []).append(draw.token)
            self.alive = [each for each in self.alive if each != draw.source]
        self.alive += [draw.sequence for draw in outcome.drawn if draw.finish is None]

    def leave(self, sequence: SequenceId) -> None:
        self.rig.batch.retire(sequence)
        self.alive.remove(sequence)

    def run(self) -> None:
        for _ in range(500):
            self.turn()
            if not self.alive and not self.stepper.is_flying:
                self.rig.cache.audit()
                assert self.rig.cache.counts().referenced == 0
                return
        raise AssertionError("still busy")


@AHEAD
def test_the_next_step_is_launched_before_the_last_one_is_collected(device: str) -> None:
    """And its token is told in the very turn that launches the step behind it: nothing comes later than it must."""
    ahead = Ahead(make_rig(device=device))
    sequence = ahead.start(work("r", prompt(5), max_tokens=6))
    ahead.turn()
    assert (ahead.rig.batch.num_in_flight, ahead.output) == (1, {})
    ahead.turn()
    assert (ahead.rig.batch.num_in_flight, len(ahead.output[sequence])) == (1, 1)
    ahead.run()
    assert ahead.output[sequence] == generate(work("r", prompt(5), max_tokens=6))[0]
    assert sum(outcome.num_orphans for outcome in ahead.outcomes) == 0, "the last token by length is foreseen"


@AHEAD
def test_a_row_behind_the_token_that_ended_its_sequence_is_dropped(device: str) -> None:
    """Its pages stay out of the pool until that row is done, and the token is told once."""
    expected = generate(work("r", prompt(5), max_tokens=9))[0]
    given = work("r", prompt(5), max_tokens=9, stop_token_ids=(expected[3],))
    rig = make_rig(device=device)
    ahead = Ahead(rig)
    sequence = ahead.start(given)
    while ahead.alive:
        ahead.turn()
    assert ahead.stepper.is_flying
    assert rig.cache.counts().referenced > 0, "the row in flight still writes there"
    ahead.run()
    assert ahead.output[sequence] == expected[: expected.index(expected[3]) + 1]
    assert [outcome.num_orphans for outcome in ahead.outcomes].count(1) == 1


@AHEAD
def test_a_sequence_that_comes_back_under_the_same_name_is_not_told_the_old_rows_token(device: str) -> None:
    rig = make_rig(device=device)
    ahead = Ahead(rig)
    sequence = ahead.start(work("r", prompt(5), max_tokens=9))
    ahead.turn()
    ahead.turn()
    ahead.leave(sequence)
    other = work("r", prompt(9, start=40), max_tokens=4, attempt=2)
    ahead.output.clear()
    ahead.start(other)
    ahead.run()
    assert ahead.output[sequence] == generate(other)[0]


OPTIONS: dict[str, dict[str, object]] = {
    "plain": {},
    "drawn at random": {"temperature": 0.8},
    "logprobs": {"logprobs": 2},
    "prompt logprobs": {"prompt_logprobs": 1},
    "penalties": {"frequency_penalty": 0.5, "repetition_penalty": 1.2},
    "bias": {"logit_bias": ((TokenId(3), 2.0),)},
    "bad words": {"bad_words": ((TokenId(5), TokenId(6)), (TokenId(7),))},
    "min tokens": {"min_tokens": 4, "stop_token_ids": tuple(range(0, 500, 3))},
    "choices": {"n": 3, "temperature": 0.7},
}
HOST = {"prompt logprobs", "penalties", "bad words", "choices"}
"""What cannot be a step ahead."""


@AHEAD
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_gives_the_answer_of_a_loop_that_waits(device: str, name: str) -> None:
    """Rows that need the host make their step wait; the others do not."""
    given = work("r", prompt(10), max_tokens=8, **OPTIONS[name])  # type: ignore[arg-type]
    outputs = []
    for own in (None, device):
        ahead = Ahead(make_rig(device=own))
        ahead.start(given)
        ahead.start(replace(given, request=RequestId("neighbour"), prompt=tuple(map(TokenId, prompt(7, start=90)))))
        ahead.run()
        told = {
            (draw.sequence, draw.index): (draw.token, draw.finish, draw.logprobs)
            for outcome in ahead.outcomes
            for draw in outcome.drawn
        }
        scored = [(each.first_position, each.logprobs) for outcome in ahead.outcomes for each in outcome.scored]
        outputs.append((told, sorted(scored, key=str)))
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("name", OPTIONS)
def test_only_rows_that_need_the_host_wait_for_it(name: str) -> None:
    ahead = Ahead(make_rig(device="late"))
    ahead.start(work("r", prompt(10), max_tokens=8, **OPTIONS[name]))  # type: ignore[arg-type]
    depths: Counter[int] = Counter()
    launch = ahead.rig.batch.launch

    def counted(plan: BatchPlan) -> bool:
        depths[ahead.rig.batch.num_in_flight] += 1
        return launch(plan)

    ahead.rig.batch.launch = counted  # type: ignore[method-assign]
    ahead.run()
    if name in {"penalties", "bad words"}:
        assert depths[1] == 0, depths
    elif name not in HOST:
        assert depths[1] >= depths[0], depths


@AHEAD
def test_a_row_that_fails_takes_the_row_behind_it_along_and_nobody_else(device: str) -> None:
    expected = generate(work("bad", prompt(5), max_tokens=9))[0]
    poison = expected[2]
    good = next(
        each
        for start in range(100)
        if poison not in generate(each := work("good", prompt(6, start=start), max_tokens=9))[0]
        and poison not in each.prompt
    )
    ahead = Ahead(make_rig(device=device, poison=(poison,)))
    bad = ahead.start(work("bad", prompt(5), max_tokens=9))
    other = ahead.start(good)
    ahead.run()
    assert ahead.output == {bad: expected[:3], other: generate(good)[0]}
    assert [sequence for outcome in ahead.outcomes for sequence in outcome.failed] == [bad]


@AHEAD
def test_a_hand_over_between_launch_and_collection_leaves_with_the_token_that_was_being_drawn(device: str) -> None:
    side = make_decode(ManualClock(), device=device)
    given = work("r", prompt(9), max_tokens=12)
    side.core.start_local(given)
    for _ in range(4):
        side.core.advance()
    assert side.rig.batch.num_in_flight == 1
    told = tokens_of(side)
    assert side.core.hand_over(RequestId("r"), 1) == 1
    events = side.core.take_events()
    told += [token for each in events for token in tokens(each)]
    (departed,) = [each for each in events if isinstance(each, Departed)]
    (part,) = departed.choices
    assert part.kept is not None
    assert list(told) == generate(given)[0][: part.num_tokens]
    assert part.kept.context == (*given.prompt, *told[:-1])
    assert part.kept.finale.first_tokens[0].token == told[-1]
    assert side.rig.batch.num_in_flight == 0
    side.core.retention.release(part.kept.name, 1)
    side.core.advance()
    assert side.rig.cache.counts().referenced == 0


@AHEAD
def test_a_hand_over_of_an_answer_whose_last_token_was_being_drawn_finds_nothing_to_hand_over(device: str) -> None:
    side = make_decode(ManualClock(), device=device)
    given = work("r", prompt(3), max_tokens=2)
    side.core.start_local(given)
    side.core.advance()
    side.core.advance()
    assert side.rig.batch.num_in_flight == 1
    assert side.core.hand_over(RequestId("r"), 1) == 0
    assert tokens_of(side) == generate(given)[0]


def tokens(event: object) -> tuple[TokenId, ...]:
    told = getattr(event, "event", None)
    return told.tokens if isinstance(told, TokensEmitted) else ()


def tokens_of(side: DecodeSide) -> list[TokenId]:
    return [token for event in side.core.take_events() for token in tokens(event)]


def random_work(chance: random.Random, name: str) -> Work:
    options = dict(chance.choice(list(OPTIONS.values())))
    if chance.random() < 0.4:
        options["stop_token_ids"] = tuple(TokenId(token) for token in range(chance.randrange(8), 512, 8))
    length = chance.randrange(1, 30)
    return work(name, prompt(length, start=chance.randrange(5)), max_tokens=chance.randrange(1, 14), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(24))
def test_any_mix_of_work_cancels_and_hand_overs_is_exact(seed: int) -> None:
    """Few pages, so that sequences are preempted; every option; both sides ahead. Seeds name the story."""
    chance = random.Random(f"stepping {seed}")
    relay = Relay(device=("late", "early")[seed % 2])
    relay.decode = make_decode(relay.clock, num_pages=40, device=relay.device)
    alive: dict[str, Work] = {}
    given_up: dict[str, Work] = {}
    for number in range(chance.randrange(20, 60)):
        match chance.choice(("send", "local", "cancel", "hand over", "turn", "turn", "turn", "turn")):
            case "send" | "local" as how:
                each = random_work(chance, f"r{number}")
                try:
                    relay.send(each) if how == "send" else relay.decode.core.start_local(each)
                except Exception:  # noqa: BLE001  # refused: there is no room, as often happens here
                    relay.decode.core.cancel(each.request, 1)
                    continue
                alive[each.request] = each
            case "cancel" if alive:
                victim = chance.choice(sorted(alive))
                given_up[victim] = alive.pop(victim)
                relay.prefill.core.cancel(RequestId(victim), 1)
                relay.decode.core.cancel(RequestId(victim), 1)
            case "hand over" if alive:
                victim = chance.choice(sorted(alive))
                if relay.decode.core.hand_over(RequestId(victim), 1):
                    given_up[victim] = alive.pop(victim)
                    relay.decode.core.cancel(RequestId(victim), 1)
            case _:
                turn(relay)
    relay.run(max_turns=5000)
    for name in (*alive, *given_up):
        relay.decode.core.cancel(RequestId(name), 1)  # as a router does: prefill may have ended what is promised here
    relay.run()
    for each in alive.values():
        for choice, expected in generate(each).items():
            assert relay.output(each.request, choice) == expected, (seed, each)
    for each in given_up.values():
        for choice, expected in generate(each).items():
            told = relay.output(each.request, choice)
            assert told == expected[: len(told)], (seed, each)
    assert not [event for event in relay.heard if isinstance(event, WorkFailed)]
    times = Counter(
        (event.request, event.choice, event.first_index)
        for event in relay.heard
        if isinstance(event, TokensEmitted) and event.first_index > 0  # the first one is told by both sides
    )
    assert set(times.values()) <= {1}, seed
    relay.check_idle()


def turn(relay: Relay) -> None:
    relay.clock.advance(0.001)
    relay.prefill.core.advance()
    relay.carry()
    relay.decode.core.advance()
    relay.listen()
