"""The batch's mechanics, with an executor whose every token depends on every page byte."""

import pytest

from common.core.request import FinishReason
from common.core.step import Draw
from common.engine.plan import BatchPlan, Extend
from tests.engine.rig import PAGE_SIZE, generate, make_rig, work

LENGTHS = (1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 3 * PAGE_SIZE, 3 * PAGE_SIZE + 2)


def prompt(length: int, start: int = 0) -> list[int]:
    return [(start + 17 * index) % 500 for index in range(length)]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("chunk", [1, 3, PAGE_SIZE, 7])
def test_chunks_do_not_change_the_answer(length: int, chunk: int) -> None:
    given = work("r", prompt(length), max_tokens=10)
    assert generate(given, chunk=chunk) == generate(given)


@pytest.mark.parametrize("length", LENGTHS)
def test_choices_share_the_prompt_and_copy_on_write(length: int) -> None:
    given = work("r", prompt(length), n=3, temperature=1.0, max_tokens=9)
    together = generate(given)
    assert len({tuple(tokens) for tokens in together.values()}) == 3
    for choice in given.choices:
        alone = work("r", prompt(length), temperature=1.0, max_tokens=9, seed=choice.seed)
        assert generate(alone)[0] == together[choice.index]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_cached_prefix_gives_the_same_answer_and_is_not_computed_again(length: int) -> None:
    rig = make_rig()
    outcomes = []
    for name in ("first", "second"):
        first = rig.batch.add(work(name, prompt(length), max_tokens=1), arrived=0.0)
        rig.batch.begin(first)
        outcomes.append(
            rig.batch.run(BatchPlan(extend=(Extend(sequence=first, num_tokens=rig.batch[first].num_pending),)))
        )
        rig.batch.proceed(outcomes[-1].drawn)
    assert outcomes[0].drawn[0].token == outcomes[1].drawn[0].token
    assert outcomes[1].num_tokens == length - (length - 1) // PAGE_SIZE * PAGE_SIZE


@pytest.mark.parametrize("length", LENGTHS)
def test_a_preempted_sequence_goes_on_as_if_nothing_had_happened(length: int) -> None:
    given = work("r", prompt(length), max_tokens=8)
    rig = make_rig()
    first = rig.batch.add(given, arrived=0.0)
    rig.batch.begin(first)
    tokens = []
    for step in range(8):
        if step == 3:
            rig.batch.run(BatchPlan(preempt=(first,)))
            rig.cache.reset()  # nothing is found again: everything must be recomputed
            assert rig.cache.counts().free == rig.cache.counts().total
            rig.batch.begin(first)
        outcome = rig.batch.run(BatchPlan(extend=(Extend(sequence=first, num_tokens=rig.batch[first].num_pending),)))
        tokens += [draw.token for draw in outcome.drawn]
        rig.batch.proceed(outcome.drawn)
    assert tokens == generate(given)[0]


@pytest.mark.parametrize("cut", [1, 4, 7])
def test_emitted_tokens_of_an_earlier_attempt_continue_the_same_text(cut: int) -> None:
    whole = generate(work("r", prompt(9), temperature=0.8, max_tokens=8))[0]
    rest = generate(work("r", prompt(9), temperature=0.8, max_tokens=8, attempt=2, emitted=tuple(whole[:cut])))[0]
    assert whole[:cut] + rest == whole


def test_adopted_pages_give_the_answer_of_the_worker_that_computed_them() -> None:
    given = work("r", prompt(11), n=2, temperature=0.9, max_tokens=6)
    here, there = make_rig(), make_rig()
    first = here.batch.add(given, arrived=0.0)
    here.batch.begin(first)
    drawn = here.batch.run(BatchPlan(extend=(Extend(sequence=first, num_tokens=11),))).drawn
    refs = there.cache.promise(3)
    assert refs is not None
    for source, target in zip(here.batch[first].pages, refs, strict=True):
        there.storage.page(target.page)[:] = here.storage.page(source.page)
    there.cache.fulfil(refs)
    firsts = {draw.choice.index: Draw(token=draw.token) for draw in drawn}
    adopted = there.batch.adopt(given, refs, firsts, arrived=0.0, held=0)
    output = {draw.choice.index: [draw.token] for draw in adopted}
    there.batch.proceed(adopted)
    alive = [draw.sequence for draw in adopted]
    while alive:
        outcome = there.batch.run(BatchPlan(decode=tuple(alive)))
        for draw in outcome.drawn:
            output[draw.choice.index].append(draw.token)
        there.batch.proceed(outcome.drawn)
        alive = [draw.sequence for draw in outcome.drawn if draw.finish is None]
    assert output == generate(given)
    there.cache.audit()
    assert there.cache.counts().referenced == 0


def test_a_row_that_finds_no_page_is_deferred_and_nothing_of_it_changes() -> None:
    rig = make_rig(num_pages=2)
    first = rig.batch.add(work("r", prompt(12)), arrived=0.0)
    rig.batch.begin(first)
    outcome = rig.batch.run(BatchPlan(extend=(Extend(sequence=first, num_tokens=12),)))
    assert outcome.deferred == (first,)
    assert rig.batch[first].num_computed == 0
    assert rig.cache.counts().free == 2


def test_max_tokens_ends_a_choice_with_length() -> None:
    rig = make_rig()
    first = rig.batch.add(work("r", prompt(5), max_tokens=1), arrived=0.0)
    rig.batch.begin(first)
    outcome = rig.batch.run(BatchPlan(extend=(Extend(sequence=first, num_tokens=5),)))
    assert [draw.finish for draw in outcome.drawn] == [FinishReason.LENGTH]


def test_a_poison_row_fails_alone() -> None:
    rig = make_rig(poison=(13,))
    good = rig.batch.add(work("good", [1, 2, 3]), arrived=0.0)
    bad = rig.batch.add(work("bad", [1, 13, 3]), arrived=0.0)
    for each in (good, bad):
        rig.batch.begin(each)
    outcome = rig.batch.run(BatchPlan(extend=(Extend(sequence=good, num_tokens=3), Extend(sequence=bad, num_tokens=3))))
    assert outcome.failed == (bad,)
    assert [draw.source for draw in outcome.drawn] == [good]


def test_swapped_pages_change_the_text_so_the_simulation_is_honest() -> None:
    given = work("r", prompt(12), max_tokens=4)
    rig = make_rig()
    first = rig.batch.add(given, arrived=0.0)
    rig.batch.begin(first)
    drawn = rig.batch.run(BatchPlan(extend=(Extend(sequence=first, num_tokens=12),))).drawn
    rig.batch.proceed(drawn)
    pages = [rig.storage.page(ref.page) for ref in rig.batch[first].pages]
    kept = bytes(pages[0])
    pages[0][:], pages[1][:] = pages[1], kept
    second = rig.batch.run(BatchPlan(decode=(first,))).drawn
    assert [drawn[0].token, second[0].token] != generate(given)[0][:2]


def test_what_a_failed_row_computed_is_lent_to_nobody() -> None:
    """Two good chunks, then the poison: the pages of the good chunks may be its cause."""
    rig = make_rig(poison=(13,))
    first = rig.batch.add(work("r", [*prompt(8), 13, 1]), arrived=0.0)
    rig.batch.begin(first)
    rig.batch.run(BatchPlan(extend=(Extend(sequence=first, num_tokens=8),)))
    assert rig.batch.run(BatchPlan(extend=(Extend(sequence=first, num_tokens=2),))).failed == (first,)
    rig.batch.retire(first)
    rig.cache.audit()
    assert rig.cache.counts().free == rig.cache.counts().total
