"""Training batches: windows of tokens drawn from three streams in fixed shares."""

import bisect
import itertools
import re
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from models.build.corpus import Share, Source, Task
from models.build.tokenizer import ASSISTANT, BEGIN, END, USER, control_id, encode_plain

Tokens = NDArray[np.uint32]

# Chosen: library code is what the model should sound like, tests add variety of names and calls without
# repeating the library more than a few times, and tasks teach the chat template and where to stop.
LIBRARY_SHARE, TEST_SHARE, TASK_SHARE = 0.62, 0.26, 0.12
# Some distributions package the library's tests apart; what is left of them is then not worth a stream.
MIN_STREAM_TOKENS = 50_000


# A prompt often ends with a newline or with the indentation of the line to come. Whole texts hide that border inside
# one token, so some of the training text is cut there and encoded in pieces, as prompt and continuation would be.
LINE_START = re.compile(r"\n(?= )")
INDENTED_START = re.compile(r"(?<=\n) +(?=\S)")
LINE_CUT_CHANCE, INDENT_CUT_CHANCE = 0.15, 0.05


def encode_in_pieces(tokenizer: Tokenizer, text: str, die: np.random.Generator) -> list[int]:
    """Token ids of `text`, cut at random line starts; decoding them gives the same text."""
    cuts = [match.end() for match in LINE_START.finditer(text) if die.random() < LINE_CUT_CHANCE]
    cuts += [match.end() for match in INDENTED_START.finditer(text) if die.random() < INDENT_CUT_CHANCE]
    borders = [0, *sorted(cuts), len(text)]
    pieces = (text[start:end] for start, end in itertools.pairwise(borders))
    return list(itertools.chain.from_iterable(encode_plain(tokenizer, piece) for piece in pieces))


def pack_sources(
    tokenizer: Tokenizer, sources: Iterable[Source], share: Share, *, die: np.random.Generator | None = None
) -> Tokens:
    """Concatenate the sources of one share as begin, text, end; with a die, texts are encoded in pieces."""
    begin, end = control_id(tokenizer, BEGIN), control_id(tokenizer, END)
    texts = (source.text for source in sources if source.share is share)
    documents = (
        encode_plain(tokenizer, text) if die is None else encode_in_pieces(tokenizer, text, die) for text in texts
    )
    return _packed([begin, *ids, end] for ids in documents)


def pack_tasks(tokenizer: Tokenizer, tasks: Iterable[Task]) -> Tokens:
    """Concatenate tasks in the spelling of the chat template."""
    begin, end, user, assistant = (control_id(tokenizer, token) for token in (BEGIN, END, USER, ASSISTANT))
    turns = ((encode_plain(tokenizer, task.request), encode_plain(tokenizer, task.answer)) for task in tasks)
    return _packed([begin, user, *request, end, assistant, *answer, end] for request, answer in turns)


def _packed(documents: Iterable[list[int]]) -> Tokens:
    return np.fromiter(itertools.chain.from_iterable(documents), dtype=np.uint32)


class Stream:
    """Windows of one packed token array: every epoch cuts it at a fresh offset and shuffles the pieces.

    One writer: the training loop. The order depends only on the seed and on the lengths asked for.
    """

    def __init__(self, tokens: Tokens, *, seed: int) -> None:
        self.tokens = tokens
        self.random = np.random.default_rng(seed)
        self.length = 0
        self.starts: list[int] = []

    def window(self, length: int) -> Tokens:
        """The next `length` + 1 tokens: inputs and the targets one place further."""
        if length != self.length or not self.starts:
            self.length = length
            offset = int(self.random.integers(length))
            cuts = np.arange(offset, len(self.tokens) - length - 1, length)
            self.starts = [int(start) for start in self.random.permutation(cuts)]
        start = self.starts.pop()
        return self.tokens[start : start + length + 1]


class Mixture:
    """Several streams drawn window by window with one seeded die. One writer: the training loop."""

    def __init__(self, weighted: Sequence[tuple[Stream, float]], *, seed: int) -> None:
        """Take streams with their shares; a stream too short for its longest window is left out."""
        usable = [(stream, share) for stream, share in weighted if len(stream.tokens) >= MIN_STREAM_TOKENS]
        if not usable:
            raise ValueError(f"no stream has {MIN_STREAM_TOKENS} tokens; is the standard library's source installed?")
        self.streams = [stream for stream, _ in usable]
        self.ends = list(itertools.accumulate(share for _, share in usable))
        self.die = np.random.default_rng(seed)

    def batch(self, *, windows: int, length: int) -> Tensor:
        """Token ids (windows, length + 1), int64."""
        rows = [self._choose().window(length) for _ in range(windows)]
        return torch.from_numpy(np.stack(rows).astype(np.int64))

    def _choose(self) -> Stream:
        roll = self.die.random() * self.ends[-1]
        return self.streams[bisect.bisect_right(self.ends, roll)]


def mix(tokenizer: Tokenizer, sources: Sequence[Source], tasks: Sequence[Task], *, seed: int) -> Mixture:
    """Tokenise the corpus (about 10 million tokens, some 15 s on one core) and build its mixture."""
    die = np.random.default_rng(seed)
    library = Stream(pack_sources(tokenizer, sources, Share.LIBRARY, die=die), seed=seed)
    tests = Stream(pack_sources(tokenizer, sources, Share.TESTS, die=die), seed=seed + 1)
    requests = Stream(pack_tasks(tokenizer, tasks), seed=seed + 2)
    return Mixture([(library, LIBRARY_SHARE), (tests, TEST_SHARE), (requests, TASK_SHARE)], seed=seed + 3)
