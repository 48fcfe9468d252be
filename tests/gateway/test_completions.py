"""POST /v1/completions, byte by byte."""

import asyncio
import json

import pytest

from common.core.errors import Reason, Refused, Unavailable
from protos.baton.v1 import generation_pb2
from tests.gateway.house import HELLO, LENGTH, STOP, gateway, say, usage
from tests.gateway.wire import parse

PATH = "/v1/completions"


async def test_a_whole_answer_has_every_field_clients_read():
    async with gateway(HELLO) as house:
        answer = await house.post(PATH, {"model": "tiny", "prompt": "hi", "max_tokens": 2})
    assert answer.status == 200
    assert answer.headers["baton-request-id"] == answer.json["id"]
    assert answer.json["object"] == "text_completion"
    assert answer.json["model"] == "tiny"
    [choice] = answer.json["choices"]
    assert (choice["index"], choice["text"], choice["finish_reason"], choice["logprobs"]) == (0, "hello", "stop", None)
    assert answer.json["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


async def test_a_stream_is_framed_as_events_and_ends_with_done():
    async with gateway(HELLO) as house:
        answer = await house.post(PATH, {"prompt": "hi", "stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "content-length" not in answer.headers
    assert answer.events[-1] == "[DONE]"
    assert [chunk["choices"][0]["text"] for chunk in answer.chunks] == ["hel", "lo"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in answer.chunks] == [None, "stop"]
    assert all("usage" not in chunk for chunk in answer.chunks)
    assert len({(chunk["id"], chunk["created"]) for chunk in answer.chunks}) == 1


async def test_usage_comes_in_a_chunk_without_choices_only_where_it_was_asked_for():
    async with gateway(HELLO) as house:
        answer = await house.post(PATH, {"prompt": "hi", "stream": True, "stream_options": {"include_usage": True}})
    *texts, last = answer.chunks
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 2
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in texts)


async def test_usage_can_come_in_every_chunk():
    async with gateway(HELLO) as house:
        options = {"include_usage": False, "continuous_usage_stats": True}
        answer = await house.post(PATH, {"prompt": "hi", "stream": True, "stream_options": options})
    assert [chunk["usage"]["completion_tokens"] for chunk in answer.chunks] == [1, 2]
    assert all(chunk["usage"]["prompt_tokens"] == 3 for chunk in answer.chunks)


async def test_several_prompts_number_their_choices_through():
    script = (say("a", choice=0, finish=STOP, prompt=1), say("b", choice=1, finish=LENGTH), usage(1, 2))
    async with gateway(script) as house:
        answer = await house.post(PATH, {"prompt": [[1, 2], [3]], "n": 2})
        prompts = [list(asked.token_ids.ids) for asked in house.router.asked]
    assert sorted(prompts) == [[1, 2], [3]]
    shown = [(choice["index"], choice["text"], choice["finish_reason"]) for choice in answer.json["choices"]]
    assert shown == [(0, "a", "stop"), (1, "b", "length"), (2, "a", "stop"), (3, "b", "length")]
    assert answer.json["usage"]["prompt_tokens"] == 2
    assert answer.json["usage"]["completion_tokens"] == 4


async def test_values_that_mean_off_are_mapped_and_absent_ones_stay_absent():
    async with gateway(HELLO) as house:
        await house.post(PATH, {"prompt": "hi", "top_k": -1, "top_p": 0, "seed": 5, "stop": "x", "stop_token_ids": [7]})
        sampling = house.router.asked[0].sampling
    assert sampling.top_k == 1, "top_p 0 keeps the likeliest token alone"
    assert not sampling.HasField("top_p")
    assert not sampling.HasField("temperature")
    assert sampling.max_tokens == 16
    assert (sampling.seed, list(sampling.stop), list(sampling.stop_token_ids)) == (5, ["x"], [7])


async def test_an_error_before_the_first_token_keeps_its_status():
    refused = Refused(message="the queue is full", reason=Reason.QUEUE_FULL, retry_after_s=2.2)
    for stream in (False, True):
        async with gateway((refused,)) as house:
            answer = await house.post(PATH, {"prompt": "hi", "stream": stream})
        assert answer.status == 429
        assert answer.headers["retry-after"] == "3"
        assert answer.error["type"] == "rate_limit_error"
        assert answer.error["code"] == "queue_full"


async def test_a_stream_that_breaks_ends_with_an_error_and_never_with_done():
    broken = Unavailable(message="every decode worker is gone", reason=Reason.NO_WORKERS)
    async with gateway((say("hel", prompt=3), broken)) as house:
        answer = await house.post(PATH, {"prompt": "hi", "stream": True})
    assert answer.status == 200
    assert "[DONE]" not in answer.events
    assert json.loads(answer.events[-1])["error"]["code"] == "no_workers"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_cancels_the_work(stream):
    async with gateway((say("hel", prompt=3), asyncio.Event())) as house:
        host, _, port = house.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps({"prompt": "hi", "stream": stream}).encode()
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        if stream:
            await reader.readuntil(b"\n\n")
        else:
            while not house.router.asked:
                await asyncio.sleep(0.01)
        writer.close()
        await asyncio.wait_for(house.router.cancelled.wait(), 5)


async def test_log_probabilities_come_as_parallel_lists_with_offsets():
    def score(token, logprob, spelling):
        return generation_pb2.TokenScore(token_id=token, logprob=logprob, rank=1, spelling=spelling)

    token = generation_pb2.ScoredToken(
        chosen=score(1, -0.5, b"he"), top=[score(1, -0.5, b"he"), score(2, -1.5, b"\xff")], text_offset=0
    )
    async with gateway((say("he", prompt=1, finish=STOP, logprobs=[token]), usage())) as house:
        answer = await house.post(PATH, {"prompt": "hi", "logprobs": 2})
        assert house.router.asked[0].sampling.logprobs == 2
    logprobs = answer.json["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["he"]
    assert logprobs["token_logprobs"] == [-0.5]
    assert logprobs["top_logprobs"] == [{"he": -0.5, "bytes:\\xff": -1.5}]
    assert logprobs["text_offset"] == [0]


async def test_an_echo_stands_before_every_choice():
    echo = generation_pb2.GenerateResponse(
        prompt=generation_pb2.PromptEcho(token_ids=[9], text="say: "), prompt_tokens=1
    )
    async with gateway((echo, say("a", finish=STOP), say("b", choice=1, finish=STOP), usage())) as house:
        answer = await house.post(PATH, {"prompt": "say: ", "echo": True, "n": 2})
        assert house.router.asked[0].echo
    assert [choice["text"] for choice in answer.json["choices"]] == ["say: a", "say: b"]


async def test_text_keeps_its_characters():
    async with gateway((say("žluť 🐎\n", finish=STOP, prompt=1), usage())) as house:
        answer = await house.post(PATH, {"prompt": "hi", "stream": True})
    assert answer.chunks[0]["choices"][0]["text"] == "žluť 🐎\n"


async def test_a_second_request_on_the_same_connection_is_served():
    async with gateway(HELLO) as house:
        host, _, port = house.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = b'{"prompt": "hi"}'
        for ending in (b"", b"connection: close\r\n"):
            writer.write(
                b"POST /v1/completions HTTP/1.1\r\nhost: x\r\n" + ending + b"content-length: 16\r\n\r\n" + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(parse(head).headers["content-length"])
            assert json.loads(await reader.readexactly(length))["choices"][0]["text"] == "hello"
        writer.close()


async def test_an_echo_with_scores_begins_with_the_token_that_has_none():
    """As evaluation harnesses read it: one entry per token of the prompt, then those of the answer."""
    first = generation_pb2.GenerateResponse(prompt=generation_pb2.PromptEcho(text="aé b", token_ids=[1, 2, 3, 4]))
    for spelling in (b"\xc3", b"\xa9", b" b"):  # a character of two tokens
        score = generation_pb2.TokenScore(spelling=spelling, logprob=-1.0)
        first.prompt_logprobs.tokens.add(chosen=score, top=[score])
    first.prompt_logprobs.first_position = 1
    async with gateway((first, say("x", finish=LENGTH), usage())) as house:
        answer = await house.post(PATH, {"prompt": "aé b", "echo": True, "logprobs": 1, "max_tokens": 1})
    scores = answer.json["choices"][0]["logprobs"]
    assert scores["token_logprobs"] == [None, -1.0, -1.0, -1.0]
    assert scores["top_logprobs"][0] is None
    assert scores["tokens"] == ["a", "bytes:\\xc3", "bytes:\\xa9", " b"]
    assert scores["text_offset"] == [0, 1, 1, 2]
