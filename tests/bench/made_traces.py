"""Workloads that nobody recorded, of other shapes than recorded ones: `python -m tests.bench.made_traces FOLDER`.

Writes one file per shape in Mooncake's format, for `baton simulate --trace`. The same seed gives the same files.

- agents: long shared instructions, sessions of many turns whose context grows by what tools answered
- documents: every prompt is long and unlike all others, answers are short
- bursts: a batch of like prompts each minute, between them short ones that come one by one
- offices: long answers to short chats, questions about one book, and labels of a word, all at once
- reasoning: short questions, one in ten beside a file, and answers of thousands of tokens
"""

import argparse
import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

BLOCK_TOKENS = 512
NUM_REQUESTS = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One request; `blocks` name the prompt's blocks, the last of them partly filled."""

    at_s: float
    tokens: int
    answer: int
    blocks: tuple[int, ...]

    def line(self) -> str:
        record = {
            "timestamp": round(self.at_s * 1000),
            "input_length": self.tokens,
            "output_length": self.answer,
            "hash_ids": list(self.blocks),
        }
        return json.dumps(record)


@dataclass(slots=True)
class Names:
    """Names of blocks, no two alike."""

    _next: Iterator[int] = field(default_factory=count)

    def fresh(self, num_tokens: int) -> tuple[int, ...]:
        """Of so many tokens that nobody else has."""
        return tuple(next(self._next) for _ in range(-(-num_tokens // BLOCK_TOKENS)))


def agents(chance: random.Random) -> Iterator[Made]:
    """Twelve kinds of agents, each with 4 to 10 thousand tokens of instructions and tools."""
    names = Names()
    kinds = [names.fresh(BLOCK_TOKENS * chance.randint(8, 20)) for _ in range(12)]
    begins_s = 0.0
    while True:
        begins_s += chance.expovariate(0.25)
        blocks, at_s = list(chance.choice(kinds)), begins_s
        tokens = len(blocks) * BLOCK_TOKENS
        for _ in range(chance.randint(4, 24)):
            answer = chance.randint(40, 300)
            tokens += int(min(chance.lognormvariate(6.5, 1.0), 12_000)) + 20
            blocks += names.fresh(max(tokens // BLOCK_TOKENS - len(blocks), 0) * BLOCK_TOKENS)
            yield Made(at_s=at_s, tokens=tokens, answer=answer, blocks=(*blocks, *names.fresh(tokens % BLOCK_TOKENS)))
            tokens += answer
            at_s += answer * 0.03 + chance.lognormvariate(1.0, 1.0)


def documents(chance: random.Random) -> Iterator[Made]:
    """One page of instructions, then some 20 thousand tokens that were retrieved for this question."""
    names, at_s = Names(), 0.0
    shared = names.fresh(1024)
    while True:
        at_s += chance.expovariate(1.0)
        own = int(min(max(chance.gauss(20_000, 6_000), 2_000), 40_000))
        yield Made(at_s=at_s, tokens=1024 + own, answer=chance.randint(20, 120), blocks=(*shared, *names.fresh(own)))


def bursts(chance: random.Random) -> Iterator[Made]:
    """Two hundred within two seconds, with examples in common; and one short prompt a second."""
    names = Names()
    tasks = [names.fresh(2048) for _ in range(5)]
    for minute in count():
        task = chance.choice(tasks)
        batch = []
        for _ in range(200):
            own = chance.randint(300, 1500)
            batch.append(
                Made(
                    at_s=minute * 60 + chance.uniform(0, 2),
                    tokens=2048 + own,
                    answer=chance.randint(150, 400),
                    blocks=(*task, *names.fresh(own)),
                )
            )
        for second in range(60):
            own = chance.randint(40, 900)
            batch.append(
                Made(
                    at_s=minute * 60 + second + chance.random(),
                    tokens=own,
                    answer=chance.randint(20, 300),
                    blocks=names.fresh(own),
                )
            )
        yield from batch


def offices(chance: random.Random) -> Iterator[Made]:
    """Of ten clients six chat, three ask a few questions about a book of their own, and one has lines labelled."""
    names, begins_s = Names(), 0.0
    rules = names.fresh(1024)
    while True:
        begins_s += chance.expovariate(0.5)
        at_s, kind = begins_s, chance.random()
        if kind < 0.6:
            blocks, tokens = names.fresh(512), 512
            for _ in range(chance.randint(1, 8)):
                tokens += chance.randint(20, 400)
                answer = int(min(chance.lognormvariate(5.8, 0.8), 1000))
                blocks += names.fresh(max(tokens // BLOCK_TOKENS - len(blocks), 0) * BLOCK_TOKENS)
                yield Made(
                    at_s=at_s, tokens=tokens, answer=answer, blocks=(*blocks, *names.fresh(tokens % BLOCK_TOKENS))
                )
                tokens += answer
                at_s += answer * 0.03 + chance.expovariate(0.1)
        elif kind < 0.9:
            book = names.fresh(BLOCK_TOKENS * chance.randint(16, 110))
            for _ in range(chance.randint(1, 5)):
                own = chance.randint(30, 200)
                tokens = len(book) * BLOCK_TOKENS + own
                yield Made(at_s=at_s, tokens=tokens, answer=chance.randint(50, 500), blocks=(*book, *names.fresh(own)))
                at_s += chance.expovariate(0.05)
        else:
            for _ in range(chance.randint(20, 60)):
                own = chance.randint(50, 700)
                yield Made(
                    at_s=at_s, tokens=1024 + own, answer=chance.randint(1, 5), blocks=(*rules, *names.fresh(own))
                )
                at_s += chance.expovariate(2.0)


def reasoning(chance: random.Random) -> Iterator[Made]:
    """What thinks before it answers: half of the answers exceed 900 tokens, one in a hundred 5,500."""
    names, at_s = Names(), 0.0
    rules = names.fresh(512)
    while True:
        at_s += chance.expovariate(1.0)
        own = 30 + int(min(chance.lognormvariate(5.0, 1.0), 2000))
        own += chance.randint(1000, 8000) if chance.random() < 0.1 else 0
        answer = 1 + int(min(chance.lognormvariate(6.8, 0.8), 6000))
        yield Made(at_s=at_s, tokens=512 + own, answer=answer, blocks=(*rules, *names.fresh(own)))


SHAPES: dict[str, Callable[[random.Random], Iterator[Made]]] = {
    "agents": agents,
    "documents": documents,
    "bursts": bursts,
    "offices": offices,
    "reasoning": reasoning,
}
AHEAD = 4
"""Sessions overlap: of so many times the requests wanted, the earliest are taken."""


def make(shape: str, num_requests: int, seed: int) -> list[Made]:
    """The first so many requests of a shape, by arrival."""
    made = SHAPES[shape](random.Random(seed))
    drawn = [next(made) for _ in range(AHEAD * num_requests)]
    return sorted(drawn, key=lambda each: each.at_s)[:num_requests]


def write(made: Iterable[Made], path: Path) -> None:
    path.write_text("".join(f"{each.line()}\n" for each in made), encoding="utf-8")


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m tests.bench.made_traces", description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--requests", type=int, default=NUM_REQUESTS)
    arguments.add_argument("--seed", type=int, default=1)
    asked = arguments.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    for shape in SHAPES:
        path = asked.folder / f"{shape}.jsonl"
        write(make(shape, asked.requests, asked.seed), path)
        print(path)


if __name__ == "__main__":
    main()
