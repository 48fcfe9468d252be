"""Requests as clients of a simulated cluster make them: every length around a page's border, shared beginnings."""

import random

from tests.sim.oracle import EOS, VOCAB_SIZE, Ask

LENGTHS = (1, 3, 4, 5, 8, 9, 12, 16, 17, 24, 31, 40)
STEMS = 3
STEM_TOKENS = 24
KIN_SHARE = 0.35
PAGE_SIZE = 4


def random_asks(chance: random.Random, count: int, *, max_pages: int, kin_share: float = KIN_SHARE) -> list[Ask]:
    """Greedy and seeded, n up to 3, stops of both kinds, min_tokens; `kin_share` of them begin as others do.

    None may ever need more than `max_pages`.
    """
    stems = [[chance.randrange(EOS) for _ in range(STEM_TOKENS)] for _ in range(STEMS)]
    return [_ask(chance, f"r{number}", stems, max_pages, kin_share) for number in range(count)]


def _ask(chance: random.Random, name: str, stems: list[list[int]], max_pages: int, kin_share: float) -> Ask:
    length = chance.choice(LENGTHS)
    prompt = [chance.randrange(EOS) for _ in range(length)]
    if chance.random() < kin_share:
        stem = chance.choice(stems)
        prompt = (stem[: chance.choice((4, 8, 13, STEM_TOKENS))] + prompt)[:44]
    ending = chance.random()
    max_tokens = chance.randrange(1, 24)
    room = max_pages // -(-(len(prompt) + max_tokens) // PAGE_SIZE)
    return Ask(
        name=name,
        prompt=tuple(prompt),
        max_tokens=max_tokens,
        n=min(room, chance.choice((1, 1, 1, 1, 2, 3))),
        temperature=chance.choice((0.0, 1.0)),
        seed=chance.randrange(1, 1 << 40),
        stop_tokens=tuple(chance.sample(range(VOCAB_SIZE), 30)) if ending < 0.15 else (),
        min_tokens=chance.choice((0, 0, 1)) if ending < 0.15 else 0,
        stop_strings=(f"{chance.randrange(10)} ", f"{chance.randrange(10, 100)} 4") if ending > 0.85 else (),
        ignore_eos=chance.random() < 0.5,
    )
