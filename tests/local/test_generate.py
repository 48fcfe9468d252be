"""Goal: flags become the message, the answer becomes text or one JSON object, and gaps are noticed."""

import pytest

from common.core.clock import ManualClock
from common.core.errors import InternalError, InvalidRequest
from protos.baton.v1 import generation_pb2, types_pb2
from services.local.answer import Answer
from services.local.generate import Sampling, build_request, receipt


def delta(first: int, *tokens: int, choice: int = 0, text: str = "", finish: int = 0) -> generation_pb2.ChoiceDelta:
    return generation_pb2.ChoiceDelta(
        choice=choice,
        first_index=first,
        token_ids=tokens,
        text=text,
        finish_reason=finish,  # type: ignore[arg-type]
    )


def response(*deltas: generation_pb2.ChoiceDelta) -> generation_pb2.GenerateResponse:
    return generation_pb2.GenerateResponse(request_id="req-1", deltas=deltas)


def test_flags_that_were_not_given_are_left_to_the_model() -> None:
    sampling = build_request("x", Sampling(temperature=0.0, stop=("a", "b"))).sampling
    assert sampling.HasField("temperature")
    assert list(sampling.stop) == ["a", "b"]
    for name in ("max_tokens", "min_tokens", "top_k", "top_p", "seed", "n", "ignore_eos"):
        assert not sampling.HasField(name)


def test_every_flag_that_the_message_cannot_hold_is_named() -> None:
    sampling = Sampling(top_k=-1, seed=1 << 70, max_tokens=1 << 40, stop_token_ids=(-5,))
    with pytest.raises(InvalidRequest) as caught:
        build_request("x", sampling)
    assert [each.field for each in caught.value.violations] == ["--max-tokens", "--top-k", "--seed", "--stop-token"]


def test_an_answer_is_gathered_by_choice_with_the_times_a_client_sees() -> None:
    clock = ManualClock()
    answer = Answer(clock)
    clock.advance(0.5)
    assert answer.take(response(delta(0, 7, text="a"), delta(0, 8, choice=1, text="b"))) == "a"
    clock.advance(0.2)
    answer.take(response(delta(1, 9, 10, text="c", finish=types_pb2.FINISH_REASON_STOP), delta(1, 11, choice=1)))
    told = answer.as_json()
    assert told["choices"] == [
        {"index": 0, "text": "ac", "token_ids": [7, 9, 10], "finish_reason": "stop"},
        {"index": 1, "text": "b", "token_ids": [8, 11], "finish_reason": ""},
    ]
    assert told["timings"] == {"ttft_s": 0.5, "itl_mean_s": pytest.approx(0.4 / 3, abs=1e-6), "total_s": 0.7}
    assert receipt(answer).startswith("req-1  ")
    assert "TTFT 500 ms" in receipt(answer)


@pytest.mark.parametrize("first", [0, 2])
def test_a_repeated_or_a_skipped_index_is_an_error(first: int) -> None:
    answer = Answer(ManualClock())
    answer.take(response(delta(0, 7)))
    with pytest.raises(InternalError, match=f"index {first} after 1 tokens"):
        answer.take(response(delta(first, 9)))


def test_an_answer_without_tokens_has_no_times() -> None:
    assert Answer(ManualClock()).timings() == {}


@pytest.mark.parametrize(("flag", "value"), [("--stop", "stop"), ("--request-id", "request_id")])
def test_a_flag_that_is_no_text_is_named(flag: str, value: str) -> None:
    bytes_kept = b"\xff".decode("utf-8", "surrogateescape")
    sampling = Sampling(stop=(bytes_kept,) if value == "stop" else ())
    with pytest.raises(InvalidRequest, match=f"{flag}: the argument is not UTF-8"):
        build_request("x", sampling, request_id=bytes_kept if value == "request_id" else "")
