"""A prompt that comes back: whole, with its scores and ids, for those who only want to know how likely it is."""

from collections.abc import Sequence

import pytest

from protos.baton.v1 import generation_pb2
from tests.gateway.house import LENGTH, STOP, gateway, say, usage

PATH, CHAT = "/v1/completions", "/v1/chat/completions"


def told(text: str, ids: Sequence[int]) -> generation_pb2.GenerateResponse:
    """The prompt, as the first message has it."""
    return generation_pb2.GenerateResponse(prompt=generation_pb2.PromptEcho(text=text, token_ids=ids))


def scored(*spellings: bytes, first: int = 1) -> generation_pb2.GenerateResponse:
    """A piece of its scores."""
    piece = generation_pb2.PromptLogprobs(first_position=first)
    for number, spelling in enumerate(spellings, start=first):
        score = generation_pb2.TokenScore(token_id=number, spelling=spelling, logprob=-1.0, rank=2)
        piece.tokens.add(chosen=score, top=[generation_pb2.TokenScore(token_id=9, spelling=b"z", rank=1), score])
    return generation_pb2.GenerateResponse(prompt_logprobs=piece)


async def test_zero_tokens_give_the_prompt_back_and_nothing_else():
    """As evaluation harnesses score texts. A router writes at least one token: it is neither shown nor counted."""
    script = (told("a b", [0, 1]), scored(b" b"), say("x", finish=STOP, prompt=2), usage())
    asked = {"prompt": "a b", "max_tokens": 0, "echo": True, "logprobs": 1}
    async with gateway(script) as house:
        answer = (await house.post(PATH, asked)).json
    [choice] = answer["choices"]
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == ("a b", "length", None)
    assert choice["logprobs"]["tokens"] == ["a", " b"]
    assert choice["logprobs"]["token_logprobs"] == [None, -1.0]
    assert answer["usage"]["completion_tokens"] == 0
    assert house.router.asked[0].sampling.max_tokens == 1


async def test_zero_tokens_can_be_streamed():
    script = (told("ab", [0]), say("x", prompt=1), say("y", first=1, finish=LENGTH), usage())
    async with gateway(script) as house:
        answer = await house.post(PATH, {"prompt": "ab", "max_tokens": 0, "echo": True, "stream": True})
    assert "".join(chunk["choices"][0]["text"] for chunk in answer.chunks) == "ab"
    assert answer.chunks[-1]["choices"][0]["finish_reason"] == "length"


async def test_zero_tokens_without_an_echo_are_a_mistake():
    async with gateway() as house:
        completion = await house.post(PATH, {"prompt": "ab", "max_tokens": 0})
        chat = await house.post(CHAT, {"messages": [{"role": "user", "content": "x"}], "max_tokens": 0})
    assert [(answer.status, answer.error["param"]) for answer in (completion, chat)] == [(400, "max_tokens")] * 2


async def test_a_prompt_of_one_token_has_its_entry_too():
    async with gateway((told("a", [7]), say("x", finish=LENGTH), usage())) as house:
        answer = await house.post(PATH, {"prompt": [7], "max_tokens": 1, "echo": True, "logprobs": 0})
    assert answer.json["choices"][0]["logprobs"]["tokens"] == ["a"]  # the answer's own come with its deltas
    assert answer.json["choices"][0]["text"] == "ax"


async def test_scores_that_come_in_pieces_are_put_together_before_they_are_told():
    """Otherwise the first token's spelling, which is what the others leave of the text, would be lost."""
    script = (told("abcd", [0, 1, 2, 3]), scored(b"b", b"c"), scored(b"d", first=3), say("x", finish=LENGTH), usage())
    async with gateway(script) as house:
        answer = await house.post(PATH, {"prompt": "abcd", "max_tokens": 1, "echo": True, "logprobs": 0})
    scores = answer.json["choices"][0]["logprobs"]
    assert (scores["tokens"], scores["text_offset"]) == (["a", "b", "c", "d"], [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("path", "body"), [(PATH, {"prompt": "ab"}), (CHAT, {"messages": [{"role": "user", "content": "x"}]})]
)
async def test_ids_and_scores_of_a_prompt_come_without_an_echo_of_its_text(path: str, body: dict[str, object]):
    script = (told("ab", [0, 1]), scored(b"b"), say("x", finish=LENGTH), usage())
    async with gateway(script) as house:
        answer = (await house.post(path, {**body, "prompt_logprobs": 1, "return_token_ids": True})).json
    holder = answer if path == CHAT else answer["choices"][0]
    assert holder["prompt_token_ids"] == [0, 1]
    first, second = holder["prompt_logprobs"]
    assert first is None
    assert second["1"] == {"logprob": -1.0, "rank": 2, "decoded_token": "b"}
    assert second["9"]["rank"] == 1
    assert house.router.asked[0].echo
    if path == PATH:
        assert answer["choices"][0]["text"] == "x"


async def test_a_prompt_without_what_frames_it_goes_as_ids():
    """The router would put the first token back before a text."""
    async with gateway((say("x", finish=LENGTH), usage())) as house:
        await house.post(PATH, {"prompt": ["four", "x"], "add_special_tokens": False})
        await house.post(PATH, {"prompt": "four", "add_special_tokens": True})
    assert sorted(list(request.token_ids.ids) for request in house.router.asked[:2]) == [[1, 0], [4, 0]]
    assert house.router.asked[2].text == "four"
