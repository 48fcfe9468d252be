"""Sampling fields from the command line."""

import pytest

from common.core.errors import InvalidRequest
from protos.baton.v1 import types_pb2
from services.local.sampling import FIELDS, set_fields


def test_every_field_of_the_protocol_can_be_given() -> None:
    assert set(FIELDS) == {field.name for field in types_pb2.SamplingParams.DESCRIPTOR.fields}


def test_numbers_lists_biases_and_switches_are_read() -> None:
    params = types_pb2.SamplingParams()
    set_fields(
        params,
        [
            "min_p=0.25",
            "logprobs=5",
            "skip_special_tokens=false",
            "logit_bias=7:2.5,9:-100",
            "allowed_token_ids=1,2",
            "allowed_token_ids=3",
            "bad_words=a=b",
            "bad_token_sequences=4,5",
        ],
    )
    expected = types_pb2.SamplingParams(
        min_p=0.25,
        logprobs=5,
        skip_special_tokens=False,
        logit_bias={7: 2.5, 9: -100.0},
        allowed_token_ids=[1, 2, 3],
        bad_words=["a=b"],
        bad_token_sequences=[types_pb2.TokenSequence(ids=[4, 5])],
    )
    assert params == expected


def test_all_that_cannot_be_read_is_told_at_once() -> None:
    bad = ["nonsense=1", "min_p", "top_k=much", "ignore_eos=perhaps", "logit_bias=7", "allowed_token_ids=-1"]
    with pytest.raises(InvalidRequest) as caught:
        set_fields(types_pb2.SamplingParams(), bad)
    assert len(caught.value.violations) == len(bad)
