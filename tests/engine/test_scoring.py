"""Log probabilities against the plain definition; ties by id; the same alone, in a crowd, and with several threads."""

import math
import random

import pytest
import torch

from common.core.ids import TokenId
from common.engine.scoring import score_tokens


def plain(logits: list[float], token: int, count: int) -> tuple[float, int, list[int], list[float]]:
    total = math.log(math.fsum(math.exp(logit) for logit in logits))
    order = sorted(range(len(logits)), key=lambda other: (-logits[other], other))[:count]
    rank = 1 + sum(logit > logits[token] for logit in logits)
    return logits[token] - total, rank, order, [logits[other] - total for other in order]


def test_scores_equal_the_plain_definition_with_ties_by_id() -> None:
    """Logits of few values, so that most of them tie."""
    chance = random.Random(3)
    rows = [[chance.randrange(-8, 8) / 2 for _ in range(60)] for _ in range(80)]
    tokens = [TokenId(chance.randrange(60)) for _ in rows]
    counts = [chance.choice([0, 1, 5, 20]) for _ in rows]
    for row, token, count, score in zip(
        rows, tokens, counts, score_tokens(torch.tensor(rows), tokens, counts), strict=True
    ):
        logprob, rank, ids, values = plain(row, token, count)
        assert (score.rank, list(score.top_ids)) == (rank, ids)
        assert score.logprob == pytest.approx(logprob, abs=2e-6)
        assert list(score.top_logprobs) == pytest.approx(values, abs=2e-6)
        assert token not in ids or score.top_logprobs[ids.index(token)] == score.logprob


def test_a_certain_token_has_probability_one() -> None:
    row = torch.full((1, 10), -200.0)
    row[0, 4] = 0.0
    (score,) = score_tokens(row, [TokenId(4)], [2])
    assert (score.logprob, score.rank, score.top_ids) == (0.0, 1, (4, 0))


@pytest.mark.parametrize("vocab", [512, 33_000])
def test_scores_have_the_same_bits_alone_in_a_crowd_and_with_two_threads(vocab: int) -> None:
    torch.manual_seed(1)
    rows = torch.randn(70, vocab) * 3
    tokens = [TokenId(int(token)) for token in torch.randint(vocab, (70,))]
    together = score_tokens(rows, tokens, [20] * 70)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = [score_tokens(rows[row : row + 1], tokens[row : row + 1], [20])[0] for row in range(70)]
    finally:
        torch.set_num_threads(threads)
    assert together == alone
