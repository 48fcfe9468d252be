"""The oracle's greedy tokens come out of the cluster too: relayed, batched, cached, and preempted."""

import pytest

from services.local.topology import Kind
from tests.cluster.house import Ask, house
from tests.oracle.families import FAMILIES, MAX_CONTEXT, THROUGH_THE_CLUSTER
from tests.oracle.jobs import DEMO, Answers

pytestmark = [pytest.mark.cluster, pytest.mark.calm, pytest.mark.timeout(600)]

NUM_TOKENS = 64
NO_LOCAL = "router.local_prompt_tokens=0"


async def test_the_cluster_gives_the_greedy_tokens_of_the_other_implementation(demo_answers: Answers) -> None:
    """Twenty prompts at once and relayed; the second round finds its prefixes in the caches."""
    asks, expected = _asks(demo_answers)
    async with house(prefill=2, decode=1, settings=(f"model.path={DEMO}", NO_LOCAL)) as cluster:
        for _round in ("cold", "cached"):
            told = await cluster.ask_all(asks, at_once=20)
            for index, answer in enumerate(told):
                answer.check_whole(NUM_TOKENS)
                assert answer.tokens() == expected[index], f"prompt {index}"
        decode = await cluster.counters(Kind.DECODE)
        assert sum(each["local_prompt_tokens"] for each in decode) == 0
        assert sum(answer.answer.usage.cached_tokens for answer in told) > 0


async def test_preempted_requests_give_the_same_tokens(demo_answers: Answers) -> None:
    """So few pages that the running sequences cannot all grow: some lose their pages and come back."""
    asks, expected = _asks(demo_answers)
    short = [index for index, ask in enumerate(asks) if len(ask.tokens) <= 65]
    async with house(settings=(f"model.path={DEMO}", "engine.num_pages=40")) as cluster:
        told = await cluster.ask_all([asks[index] for index in short], at_once=len(short))
        for index, answer in zip(short, told, strict=True):
            answer.check_whole(NUM_TOKENS)
            assert answer.tokens() == expected[index], f"prompt {index}"
        assert sum(each["preemptions"] for each in await cluster.counters(Kind.DECODE)) > 0


@pytest.mark.parametrize("name", THROUGH_THE_CLUSTER)
async def test_a_family_passes_through_the_cluster(few_family_answers: Answers, name: str) -> None:
    """Relayed from prefill to decode, twenty at once, then again out of the caches."""
    await _pass_through(few_family_answers, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - {*THROUGH_THE_CLUSTER, *MAX_CONTEXT}))
async def test_every_other_family_passes_through_the_cluster(family_answers: Answers, name: str) -> None:
    await _pass_through(family_answers, name)


async def _pass_through(answers: Answers, name: str) -> None:
    job = answers.jobs[name]
    asks = [Ask(tokens=prompt, max_tokens=NUM_TOKENS) for prompt in job.prompts]
    async with house(settings=(f"model.path={job.folder}", NO_LOCAL)) as cluster:
        for _round in ("cold", "cached"):
            told = await cluster.ask_all(asks, at_once=20)
            for index, answer in enumerate(told):
                answer.check_whole(NUM_TOKENS)
                assert answer.tokens() == answers.tokens(name, index), f"prompt {index}"
        assert sum(each["local_prompt_tokens"] for each in await cluster.counters(Kind.DECODE)) == 0
        assert sum(answer.answer.usage.cached_tokens for answer in told) > 0


def _asks(answers: Answers) -> tuple[list[Ask], list[list[int]]]:
    prompts = answers.jobs["demo"].prompts
    asks = [Ask(tokens=prompt, max_tokens=NUM_TOKENS) for prompt in prompts]
    return asks, [answers.tokens("demo", index) for index in range(len(prompts))]
