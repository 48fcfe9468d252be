"""Every option against a plain definition, one token at a time; and that rows do not depend on each other."""

import math
import random
from collections import Counter

import pytest
import torch

from common.core.ids import TokenId
from common.core.request import TokenSampling
from common.core.shaping import Shaping
from common.core.step import Sample
from common.engine.bans import Bans
from common.engine.rule import leaves_any
from common.engine.sampler import draw_tokens
from common.engine.shaper import shape_logits

VOCAB = 50


def plain(logits: list[float], sampling: TokenSampling, banned: set[int], prompt: list[int], output: list[int]):
    """The definition. Floats of 32 bits, as the engine computes."""
    counts, seen = Counter(output), {*prompt, *output}
    shaped = []
    for token, logit in enumerate(logits):
        value = torch.tensor(logit)
        if sampling.allowed_ids and token not in sampling.allowed_ids:
            value = torch.tensor(-math.inf)
        if token in banned:
            value = torch.tensor(-math.inf)
        value = value + dict(sampling.logit_bias).get(TokenId(token), 0.0)
        if token in seen:
            penalty = torch.tensor(sampling.repetition_penalty)
            value = value / penalty if value > 0 else value * penalty
        value = value - torch.tensor(sampling.frequency_penalty) * counts[token]
        value = value - torch.tensor(sampling.presence_penalty) * (counts[token] > 0)
        shaped.append(float(value))
    return shaped


def case(seed: int) -> tuple[Sample, list[float], set[int], list[int], list[int]]:
    """A random request somewhere in its answer, with each option set or not."""
    chance = random.Random(seed)
    tokens = [TokenId(token) for token in range(VOCAB)]
    sampling = TokenSampling(
        temperature=chance.choice([0.0, 0.7]),
        repetition_penalty=chance.choice([1.0, 1.3, 0.8]),
        frequency_penalty=chance.choice([0.0, 0.5, -0.25]),
        presence_penalty=chance.choice([0.0, 1.5]),
        logit_bias=tuple(
            (token, chance.uniform(-9, 9)) for token in sorted(chance.sample(tokens, chance.choice([0, 5])))
        ),
        allowed_ids=tuple(sorted(chance.sample(tokens, chance.choice([0, 0, 20])))),
    )
    prompt, output = chance.choices(tokens, k=chance.randrange(1, 40)), chance.choices(tokens, k=chance.randrange(30))
    banned = set(chance.sample(tokens, chance.choice([0, 3])))
    logits = [chance.uniform(-6, 6) for _ in tokens]
    sample = Sample(
        seed=seed,
        position=len(prompt) + len(output),
        sampling=sampling,
        banned=tuple(sorted(banned)),
        shaping=Shaping.of(sampling, prompt=prompt, output=output),
    )
    return sample, logits, set(banned), list(prompt), list(output)


def test_options_equal_their_plain_definition_in_a_crowd_and_alone() -> None:
    """Forty random requests in one batch; bit for bit, because every step is elementwise."""
    cases = [case(seed) for seed in range(40)]
    rows = torch.tensor([logits for _sample, logits, *_ in cases])
    before = rows.clone()
    together = shape_logits(rows, [sample for sample, *_ in cases])
    assert torch.equal(rows, before)
    for number, (sample, logits, banned, prompt, output) in enumerate(cases):
        expected = torch.tensor(plain(logits, sample.sampling, banned, prompt, output))
        assert torch.equal(together[number], expected), f"seed {number}"
        assert torch.equal(shape_logits(rows[number : number + 1], [sample])[0], expected), f"seed {number} alone"


def test_draws_with_options_do_not_depend_on_the_batch() -> None:
    cases = [case(seed) for seed in range(60)]
    rows = torch.tensor([logits for _sample, logits, *_ in cases])
    together = draw_tokens(rows, [sample for sample, *_ in cases])
    alone = [draw_tokens(rows[number : number + 1], [each[0]])[0] for number, each in enumerate(cases)]
    assert together == alone


def test_without_options_the_logits_are_handed_on_as_they_are() -> None:
    rows = torch.randn(4, VOCAB)
    sampling = TokenSampling(temperature=0.0, logprobs=5)
    assert Shaping.of(sampling, prompt=[TokenId(3)]) is None
    assert shape_logits(rows, [Sample(seed=0, position=9, sampling=sampling)] * 4) is rows


@pytest.mark.parametrize("repetition", [1.0, 1.5])
def test_history_kept_step_by_step_equals_history_built_anew(repetition: float) -> None:
    """What a move, a preemption or a fork rests on."""
    chance = random.Random(7)
    sampling = TokenSampling(repetition_penalty=repetition, frequency_penalty=0.5)
    prompt = [TokenId(chance.randrange(VOCAB)) for _ in range(30)]
    output = [TokenId(chance.randrange(VOCAB)) for _ in range(200)]
    kept = Shaping.of(sampling, prompt=prompt)
    assert kept is not None
    for token in output[:100]:
        kept.note(token)
    kept, sibling = kept.copy(), kept
    for token in output[100:]:
        kept.note(token)
        sibling.note(TokenId(0))
    anew = Shaping.of(sampling, prompt=prompt, output=output)
    assert anew is not None
    assert (kept.seen, kept.counts) == (anew.seen, anew.counts)
    assert sum(sibling.counts) == sum(kept.counts)


def test_a_bad_word_is_banned_where_it_would_be_completed() -> None:
    bans = Bans(TokenSampling(bad_words=((5,), (1, 2, 3), (2, 9))), eos_ids=(0,))  # type: ignore[arg-type]
    context = [1, 1, 2]
    assert bans.after(context, num_output=3) == (3, 5, 9)  # type: ignore[arg-type]
    assert bans.after(context, num_output=1) == (5, 9)  # type: ignore[arg-type]  # 1 belongs to the prompt
    assert bans.after(context, num_output=0) == (5,)  # type: ignore[arg-type]


def test_min_tokens_bans_what_would_end_the_choice_until_it_is_reached() -> None:
    sampling = TokenSampling(min_tokens=2, stop_token_ids=(TokenId(8),), ignore_eos=True)
    bans = Bans(sampling, eos_ids=(TokenId(0),))
    assert bans.after([TokenId(1)] * 5, num_output=1) == (0, 8)
    assert bans.after([TokenId(1)] * 5, num_output=2) == ()


def test_bans_give_way_where_nothing_allowed_would_be_left() -> None:
    sampling = TokenSampling(allowed_ids=(TokenId(0),), min_tokens=3)
    assert Bans(sampling, eos_ids=(TokenId(0),)).after([TokenId(1)], num_output=0) == ()


def test_a_banned_id_that_the_model_does_not_have_bans_nothing_in_another_row() -> None:
    """Ends of generation_config.json and words of a tokenizer may lie beyond the model's vocabulary."""
    samples = [
        Sample(seed=row, position=1, sampling=TokenSampling(), banned=(TokenId(3), TokenId(VOCAB + 2)))
        for row in range(2)
    ]
    shaped_SV = shape_logits(torch.zeros(2, VOCAB), samples)
    assert (shaped_SV == -math.inf).nonzero().tolist() == [[0, 3], [1, 3]]


def test_whether_a_mask_leaves_a_token_is_counted_once_for_each() -> None:
    mask = bytes([0b0000_1010, 0b1])  # 1, 3 and 8
    assert leaves_any(mask, [1, 3, 1, 3, 2])  # type: ignore[list-item]
    assert leaves_any(mask, [1, 8, 500])  # type: ignore[list-item]
    assert not leaves_any(mask, [1, 3, 8, 9])  # type: ignore[list-item]
