"""Batches: windows cover their stream, the mixture does without a missing part, cut texts stay the same text."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from models.build.batches import MIN_STREAM_TOKENS, Mixture, Stream, encode_in_pieces
from models.build.tokenizer import encode_plain

DEMO_TOKENIZER = Path(__file__).parents[2] / "models" / "demo" / "tokenizer.json"
SOURCE = "def area(side):\n    if side:\n        return side * side\n\n\nclass Square:\n    pass\n" * 40


def test_an_epoch_of_windows_covers_the_stream_without_overlap() -> None:
    """Within one epoch all starts are distinct and one window apart."""
    stream = Stream(np.arange(MIN_STREAM_TOKENS, dtype=np.uint32), seed=3)
    first = stream.window(256)
    starts = sorted([int(first[0]), *stream.starts])
    assert len(first) == 257
    assert {later - earlier for earlier, later in itertools.pairwise(starts)} == {256}


def test_short_streams_are_left_out_and_none_at_all_is_an_error() -> None:
    """A distribution without the library's tests still trains; one without sources says what is missing."""
    short, long = (
        Stream(np.zeros(10, dtype=np.uint32), seed=1),
        Stream(np.zeros(MIN_STREAM_TOKENS, dtype=np.uint32), seed=1),
    )
    assert Mixture([(short, 0.9), (long, 0.1)], seed=1).streams == [long]
    with pytest.raises(ValueError, match="standard library"):
        Mixture([(short, 1.0)], seed=1)


def test_pieces_decode_to_the_text_and_show_lone_newlines() -> None:
    """The whole text hides every newline before an indented line inside a longer token; some pieces do not."""
    tokenizer = Tokenizer.from_file(str(DEMO_TOKENIZER))
    whole = encode_plain(tokenizer, SOURCE)
    pieces = encode_in_pieces(tokenizer, SOURCE, np.random.default_rng(5))
    assert tokenizer.decode(pieces) == tokenizer.decode(whole) == SOURCE
    (newline,) = encode_plain(tokenizer, "\n")
    assert pieces.count(newline) > whole.count(newline)
