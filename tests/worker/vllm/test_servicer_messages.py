"""The contract's fields: what proto3's zeros mean, what is refused by name, how an end is spelled."""

from typing import Any

import pytest

from common.core.errors import InvalidRequest
from common.core.events import TokensEmitted
from common.core.ids import RequestId, TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import FinishReason
from common.worker.vllm.asked import Asked, ModelCard
from common.worker.vllm.choice import ChoiceAnswer
from common.worker.vllm.handover import Sealer

pb = pytest.importorskip("smg_grpc_proto.generated.vllm_engine_pb2", reason="smg-grpc-proto is not installed")
messages = pytest.importorskip("common.worker.vllm.servicer_messages")

CARD = ModelCard(name="m", folder="", max_context=64, vocab_size=100)


def ask(*, is_prefill: bool = False, request: dict[str, Any] | None = None, **sampling: Any) -> Asked:
    fields = {"request_id": "r", "tokenized": pb.TokenizedInput(input_ids=[1, 2, 3]), **(request or {})}
    message = pb.GenerateRequest(sampling_params=pb.SamplingParams(**sampling), **fields)
    asked = messages.asked_from_wire(message, CARD, Sealer(b"s" * 32), is_prefill=is_prefill)
    assert isinstance(asked, Asked)
    return asked


def test_zeros_that_mean_absent_are_off_and_a_temperature_of_zero_is_greedy() -> None:
    sampling = ask(max_tokens=5).sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.repetition_penalty) == (1.0, 1.0, 0, 1.0)
    assert ask(temperature=0.0).sampling.is_greedy


def test_without_max_tokens_the_context_is_the_limit() -> None:
    assert ask().sampling.max_tokens == 61
    assert ask(max_tokens=1000).sampling.max_tokens == 61


def test_every_field_reaches_the_sampler() -> None:
    asked = ask(
        temperature=0.5,
        top_p=0.25,
        top_k=4,
        min_p=0.125,
        frequency_penalty=0.5,
        presence_penalty=-0.5,
        repetition_penalty=1.5,
        max_tokens=9,
        min_tokens=2,
        stop=["x", ""],
        stop_token_ids=[7, 8],
        ignore_eos=True,
        n=3,
        logprobs=2,
        prompt_logprobs=1,
        seed=-5,
        logit_bias={4: 1.5},
    )
    own = asked.sampling
    assert (own.temperature, own.top_p, own.top_k, own.min_p) == (0.5, 0.25, 4, 0.125)
    assert (own.frequency_penalty, own.presence_penalty, own.repetition_penalty) == (0.5, -0.5, 1.5)
    assert (own.max_tokens, own.min_tokens, own.stop_token_ids, own.ignore_eos) == (9, 2, (7, 8), True)
    assert (own.logprobs, own.prompt_logprobs, own.logit_bias) == (2, 1, ((4, 1.5),))
    assert (asked.num_choices, asked.seed, asked.stops) == (3, -5, ("x",))


@pytest.mark.parametrize(
    ("sampling", "request_fields"),
    [
        ({"json_schema": "{}"}, {}),
        ({"regex": "a"}, {}),
        ({"json_object": True}, {}),
        ({"choice": pb.ChoiceConstraint(choices=["a"])}, {}),
        ({"logprobs": -1}, {}),
        ({"logprobs": 21}, {}),
        ({"max_tokens": 0}, {}),
        ({"top_p": 1.5}, {}),
        ({"temperature": float("nan")}, {}),
        ({"logit_bias": {-1: 1.0}}, {}),
        ({"truncate_prompt_tokens": 2}, {}),
        ({"n": 65}, {}),
        ({}, {"request_id": ""}),
        ({}, {"tokenized": pb.TokenizedInput()}),
        ({}, {"tokenized": pb.TokenizedInput(input_ids=[100])}),
        ({}, {"tokenized": pb.TokenizedInput(input_ids=[1] * 64)}),
        ({}, {"data_parallel_rank": 1}),
        ({}, {"mm_inputs": pb.MultimodalInputs()}),
        ({}, {"kv_transfer_params": pb.KvTransferParams(remote_host="h")}),
        ({}, {"kv_transfer_params_json": '{"remote_host": "h"}'}),
    ],
)
def test_what_cannot_be_done_is_refused(sampling: dict[str, Any], request_fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        ask(request=request_fields, **sampling)


def test_a_prefill_worker_draws_one_token_and_reads_no_handover() -> None:
    assert ask(is_prefill=True, max_tokens=1, request={"kv_transfer_params_json": "{}"}).handover is None
    with pytest.raises(InvalidRequest):
        ask(is_prefill=True, max_tokens=2)


def test_a_repeated_first_token_counts_once_and_the_end_tells_everything() -> None:
    asked, answer = ask(max_tokens=2, stop_token_ids=[9], logprobs=0), ChoiceAnswer(0)
    first = emitted(0, 5)
    assert answer.take(first) is not None
    assert answer.take(first) is None
    assert answer.take(emitted(1, 9, finish=FinishReason.STOP)) is not None
    told = messages.complete(asked, answer, (), cached=2, params=None).complete
    assert list(told.output_ids) == [5, 9]
    assert (told.finish_reason, told.matched_token_id, told.cached_tokens) == ("stop", 9, 2)
    assert list(told.output_logprobs.token_logprobs) == [-0.5, -0.5]
    assert not told.HasField("kv_transfer_params_json")


def emitted(index: int, token: int, *, finish: FinishReason | None = None) -> TokensEmitted:
    return TokensEmitted(
        request=RequestId("r"),
        attempt=1,
        choice=0,
        first_index=index,
        tokens=(TokenId(token),),
        finish=finish,
        stop_token=TokenId(token) if finish is FinishReason.STOP else None,
        logprobs=(TokenLogprobs(logprob=-0.5, rank=1),),
    )


@pytest.mark.parametrize(
    ("sampling", "is_used"),
    [
        ({}, True),
        ({"ignore_eos": True, "min_tokens": 9}, True),
        ({"stop_token_ids": [7]}, True),
        ({"min_tokens": 1}, False),
        ({"ignore_eos": True, "min_tokens": 1, "stop_token_ids": [7]}, False),
        ({"logit_bias": {4: -100.0}}, False),
    ],
)
def test_pages_whose_first_token_was_drawn_by_other_rules_are_not_taken(
    sampling: dict[str, Any], is_used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway was seen to send these fields to decode alone."""
    handed = object()
    monkeypatch.setattr(Sealer, "read", lambda self, text: handed)
    asked = ask(request={"kv_transfer_params_json": "{}"}, max_tokens=20, **sampling)
    assert (asked.handover is handed) is is_used
