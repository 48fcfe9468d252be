"""Goal: options and log probabilities are functions of tokens alone. Method: one request with all of them, on a batch
with weights: alone, chunked, preempted, moved, and beside others; the simulated one for the hand-over."""

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from common.core.clock import ManualClock
from common.core.events import PrefillDone, PromptScored, TokensEmitted
from common.core.ids import SequenceId, TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import TokenSampling, Work
from common.engine.batch import Batch
from common.engine.plan import BatchPlan, Extend
from common.engine.torch_executor import TorchExecutor
from common.kv.cache import PageCache
from common.kv.pool import PagePool
from common.kv.prefix import PrefixIndex
from common.kv.torch_storage import TorchStorage
from tests.engine.relay import Relay
from tests.engine.rig import generate, work
from tests.engine.torch_rig import small_model

if TYPE_CHECKING:
    from common.engine.outcome import Drawn

PAGE_SIZE = 16
PROMPT = [(7 * number) % 97 + 5 for number in range(53)]
EVERYTHING = TokenSampling(
    temperature=0.9,
    top_p=0.97,
    top_k=80,
    min_p=0.001,
    max_tokens=24,
    min_tokens=4,
    ignore_eos=True,
    repetition_penalty=1.3,
    frequency_penalty=0.4,
    presence_penalty=0.2,
    logit_bias=((TokenId(7), 2.5), (TokenId(9), -3.0)),
    allowed_ids=tuple(map(TokenId, range(3, 400))),
    bad_words=((TokenId(11),), (TokenId(7), TokenId(12))),
    logprobs=5,
    prompt_logprobs=3,
)


class Bench:
    """A batch with weights, and what came out of it, by request and choice."""

    def __init__(self, num_pages: int = 200) -> None:
        model = small_model()
        layout = model.decoder.spec.page_layout(page_size=PAGE_SIZE, dtype="float32", model_digest=b"")
        storage = TorchStorage(layout, num_pages)
        self.cache = PageCache(PagePool(num_pages), PrefixIndex(), page_size=PAGE_SIZE)
        executor = TorchExecutor(model.decoder, storage, clock=ManualClock(), num_threads=1)
        self.batch = Batch(cache=self.cache, executor=executor, layout=layout, eos_ids=(TokenId(1),))
        self.alive: list[SequenceId] = []
        self.drawn: dict[SequenceId, list[Drawn]] = {}
        self.scores: dict[str, dict[int, TokenLogprobs]] = {}

    def add(self, given: Work) -> None:
        first = self.batch.add(given, arrived=0.0)
        self.batch.begin(first)
        self.alive.append(first)

    def step(self, chunk: int = 10_000) -> None:
        extend = tuple(
            Extend(sequence=each, num_tokens=min(chunk, self.batch[each].num_pending)) for each in self.alive
        )
        outcome = self.batch.run(BatchPlan(extend=extend))
        for scored in outcome.scored:
            known = self.scores.setdefault(scored.work.request, {})
            for position, own in enumerate(scored.logprobs, start=scored.first_position):
                assert known.setdefault(position, own) == own
        for draw in outcome.drawn:
            self.drawn.setdefault(draw.sequence, []).append(draw)
        self.batch.proceed(outcome.drawn)
        sources = {draw.source for draw in outcome.drawn}
        self.alive = [each for each in self.alive if each not in sources]
        self.alive += [draw.sequence for draw in outcome.drawn if draw.finish is None]

    def preempt(self, *, forget: bool) -> None:
        self.batch.run(BatchPlan(preempt=tuple(self.alive)))
        if forget:
            self.cache.reset()
        for each in self.alive:
            self.batch.begin(each)

    def finish(self, chunk: int = 10_000) -> None:
        while self.alive:
            self.step(chunk)

    def told(self, name: str, choice: int = 0) -> list[tuple[TokenId, TokenLogprobs | None]]:
        return [(draw.token, draw.logprobs) for draw in self.drawn[SequenceId(name, choice)]]  # type: ignore[arg-type]


def wanted(name: str = "r", *, n: int = 1, **changes: Any) -> Work:
    return replace(work(name, PROMPT, n=n), sampling=replace(EVERYTHING, **changes))


def alone(given: Work, chunk: int = 10_000) -> Bench:
    bench = Bench()
    bench.add(given)
    bench.finish(chunk)
    return bench


@pytest.mark.parametrize("chunk", [1, 7, 16, 50])
def test_a_prompt_in_chunks_says_the_same(chunk: int) -> None:
    whole, chunked = alone(wanted()), alone(wanted(), chunk)
    assert chunked.told("r") == whole.told("r")
    assert chunked.scores == whole.scores
    assert sorted(whole.scores["r"]) == list(range(1, len(PROMPT)))


@pytest.mark.parametrize("forget", [True, False])
@pytest.mark.parametrize("when", [1, 3, 9])
def test_a_preempted_request_says_the_same(when: int, forget: bool) -> None:
    """Step 1 lies amid the prompt: its scores begin again, and none is told twice with another value."""
    bench = Bench()
    bench.add(wanted())
    for _ in range(when):
        bench.step(20)
    bench.preempt(forget=forget)
    bench.finish(20)
    whole = alone(wanted())
    assert bench.told("r") == whole.told("r")
    assert bench.scores == whole.scores


@pytest.mark.parametrize("moved_after", [1, 2, 11])
def test_a_moved_request_goes_on_as_if_nothing_had_happened(moved_after: int) -> None:
    """Another worker builds the penalties' counts and the bad words' beginnings from the tokens alone."""
    whole = alone(wanted()).told("r")
    emitted = tuple(token for token, _own in whole[:moved_after])
    moved = alone(replace(wanted(), emitted=emitted, sampling=replace(EVERYTHING, prompt_logprobs=None)))
    assert moved.told("r") == whole[moved_after:]


def test_choices_count_their_own_tokens() -> None:
    together = alone(wanted(n=3))
    for choice in wanted(n=3).choices:
        single = alone(replace(wanted(), choices=(replace(choice, index=0),)))
        assert together.told("r", choice.index) == single.told("r")


def test_a_request_with_options_says_the_same_beside_others() -> None:
    bench = Bench()
    others: dict[str, dict[str, Any]] = {
        "greedy": {"temperature": 0.0, "logprobs": None},
        "free": {"allowed_ids": (), "logprobs": 20},
    }
    for name, changes in others.items():
        bench.add(wanted(name, prompt_logprobs=None, **changes))
    bench.step()
    bench.add(wanted())
    bench.finish(9)
    assert bench.told("r") == alone(wanted()).told("r")
    for name, changes in others.items():
        assert bench.told(name) == alone(wanted(name, prompt_logprobs=None, **changes)).told(name)


def test_options_do_what_they_say() -> None:
    tokens = [token for token, _own in alone(wanted(temperature=1.5, max_tokens=60)).told("r")]
    assert set(tokens) <= set(range(3, 400))
    assert 11 not in tokens
    assert (7, 12) not in set(pairwise(tokens))


def test_scores_of_a_prompt_are_those_of_a_full_forward_cached_or_not() -> None:
    """A cached prefix has no logits: the prompt is computed whole, and its scores are the same bits."""
    bench = Bench()
    bench.add(wanted("first", prompt_logprobs=None))
    bench.finish()
    bench.add(wanted())
    assert bench.batch[SequenceId("r")].num_cached == 0  # type: ignore[arg-type]
    bench.step()
    cold = alone(wanted())
    assert bench.scores["r"] == cold.scores["r"]
    for position in (1, 16, 52):
        before = alone(replace(wanted(), prompt=tuple(map(TokenId, PROMPT[:position]))))
        own = before.told("r")[0][1]
        assert own is not None
        assert own.top_ids[:3] == cold.scores["r"][position].top_ids
        assert own.top_logprobs[:3] == cold.scores["r"][position].top_logprobs


def test_log_probabilities_are_raw_whatever_the_options_do() -> None:
    """The first token's alternatives are the same for a greedy request without options and for one with all."""
    plain = work("r", PROMPT, temperature=0.0, max_tokens=1)
    free = alone(replace(plain, sampling=replace(plain.sampling, logprobs=5))).told("r")[0][1]
    shaped = alone(wanted()).told("r")[0][1]
    assert free is not None
    assert shaped is not None
    assert (free.top_ids, free.top_logprobs, free.rank) == (shaped.top_ids, shaped.top_logprobs, 1)


def test_scores_of_a_wide_vocabulary_are_computed_in_smaller_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.engine.flights.MAX_SCORED_LOGITS", 10 * 512)
    bench = Bench()
    bench.add(wanted())
    bench.step()
    assert bench.batch[SequenceId("r")].num_computed == 10  # type: ignore[arg-type]
    bench.finish()
    assert bench.scores == alone(wanted()).scores


@pytest.mark.parametrize("length", [1, 3, 8, 20])
def test_a_relayed_request_says_the_same_and_carries_its_scores(length: int) -> None:
    """Simulated: decode repeats index 0 and the prompt's scores as prefill told them, all before its first token."""
    sampling = replace(EVERYTHING, max_tokens=9, allowed_ids=())
    given = replace(work("r", list(range(3, 3 + length)), n=2), sampling=sampling)
    relay = Relay()
    relay.send(given)
    relay.run()
    expected = generate(given)
    for choice in (0, 1):
        assert relay.output("r", choice) == expected[choice]
    told: dict[tuple[int, int], TokenLogprobs] = {}
    scores: dict[int, list[TokenLogprobs]] = {}
    num_tokens = 0
    for event in relay.heard:
        if isinstance(event, TokensEmitted):
            num_tokens += 1
            (own,) = event.logprobs
            assert told.setdefault((event.choice, event.first_index), own) == own
        elif isinstance(event, PromptScored):
            for position, own in enumerate(event.logprobs, start=event.first_position):
                scores.setdefault(position, []).append(own)
        elif isinstance(event, PrefillDone):
            assert event.cached_tokens == 0
    assert len(told) == 18
    assert num_tokens == 20, "index 0 of both choices comes from both workers"
    assert sorted(scores) == list(range(1, length))
    assert all(len(own) == 2 and own[0] == own[1] for own in scores.values())
    relay.check_idle()
