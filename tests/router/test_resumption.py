"""Goal: a resumable request survives its client's connection, once. Method: the production servicers on the in-memory
network and virtual time; the real network is in tests/cluster."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from common.core.errors import (
    BatonError,
    Cancelled,
    Fenced,
    InternalError,
    InvalidRequest,
    NotFound,
    Reason,
    Unavailable,
)
from common.rpc.client import call, stream
from protos.baton.v1 import generation_pb2, generation_pb2_grpc, types_pb2
from services.router.delta import Delta
from services.router.journey import Journey
from services.router.reply import Reply
from tests.router.cast import true_token
from tests.router.door import IDS, WINDOW_S, Door, at_the_door
from tests.sim.transport import memory_connect


def wish(max_tokens: int = 40, **fields: object) -> generation_pb2.GenerateRequest:
    return generation_pb2.GenerateRequest(
        request_id="mine",
        token_ids=IDS,
        sampling=types_pb2.SamplingParams(max_tokens=max_tokens, **fields),  # type: ignore[arg-type]
        return_token_ids=True,
        resumable=True,
        echo=True,
    )


async def read_some(door: Door, request: generation_pb2.GenerateRequest, count: int) -> list[int]:
    """The first tokens, over a connection that then breaks."""
    tokens: list[int] = []
    channel = memory_connect(door.house.network, "fickle")(door.address)
    stub = generation_pb2_grpc.GenerationServiceStub(channel)
    async with stream(stub.Generate, request, peer="router", timeout_s=30) as responses:
        async for response in responses:
            for delta in response.deltas:
                assert delta.first_index == len(tokens)
                tokens += delta.token_ids
            if len(tokens) >= count:
                break
    await channel.close()
    return tokens


async def resume(door: Door, *seen: int, tenant: str = "") -> AsyncIterator[generation_pb2.GenerateResponse]:
    request = generation_pb2.ResumeRequest(request_id="mine", from_index=seen, tenant=tenant)
    async with stream(door.clients.Resume, request, peer="router", timeout_s=30) as responses:
        async for response in responses:
            yield response.response


async def rest_of(door: Door, *seen: int) -> tuple[list[int], list[generation_pb2.GenerateResponse]]:
    tokens: list[int] = []
    responses = [response async for response in resume(door, *seen)]
    for response in responses:
        for delta in response.deltas:
            assert delta.first_index == seen[0] + len(tokens)
            tokens += delta.token_ids
    return tokens, responses


TRUE = [true_token(0, index) for index in range(40)]


@pytest.mark.parametrize("count", [1, 7, 39])
def test_a_client_that_comes_back_gets_every_index_once(count: int) -> None:
    async def act(door: Door) -> None:
        had = await read_some(door, wish(), count)
        await asyncio.sleep(0.1)
        tokens, responses = await rest_of(door, len(had))
        assert had + tokens == TRUE
        assert responses[-1].usage.completion_tokens == 40
        assert not any(response.HasField("prompt") for response in responses)
        assert sum(worker.seen["cancel"] for worker in door.house.stage.workers.values()) == 0

    at_the_door(act)


def test_one_that_lost_everything_gets_the_prompt_again_too() -> None:
    async def act(door: Door) -> None:
        await read_some(door, wish(), 3)
        tokens, responses = await rest_of(door, 0)
        assert tokens == TRUE
        assert list(responses[0].prompt.token_ids) == list(IDS.ids)

    at_the_door(act)


def test_a_request_that_ended_meanwhile_is_told_to_its_end() -> None:
    async def act(door: Door) -> None:
        had = await read_some(door, wish(), 5)
        await asyncio.sleep(2.0)
        for _ in range(2):  # the record stays for its window, whoever asks
            tokens, responses = await rest_of(door, len(had))
            assert had + tokens == TRUE
            assert responses[-1].usage.prompt_tokens == 8
        nothing, responses = await rest_of(door, 41)
        assert nothing == []
        assert responses[-1].HasField("usage")

    at_the_door(act)


def test_when_the_window_is_over_the_work_ends_and_the_reason_says_so() -> None:
    async def act(door: Door) -> None:
        door.house.stage.workers["d0"].script.step_s = 0.2
        had = await read_some(door, wish(max_tokens=100), 3)
        await asyncio.sleep(WINDOW_S - 0.5)
        assert door.house.dispatcher.num_active == 1
        await asyncio.sleep(1.0)
        assert door.house.dispatcher.num_active == 0
        assert not door.house.stage.workers["d0"].held
        with pytest.raises(NotFound) as caught:
            await rest_of(door, len(had))
        assert caught.value.reason is Reason.RESUME_EXPIRED
        assert door.resumption.num_bytes == len(door.resumption) == 0

    at_the_door(act)


def test_others_requests_and_wrong_indexes_are_refused() -> None:
    async def act(door: Door) -> None:
        had = await read_some(door, wish(), 5)
        errors: list[BatonError] = []
        for seen, tenant in (((len(had),), "stranger"), ((1000,), ""), ((0, 0), "")):
            with pytest.raises(BatonError) as caught:
                _ = [response async for response in resume(door, *seen, tenant=tenant)]
            errors.append(caught.value)
        assert [type(error) for error in errors] == [NotFound, InvalidRequest, InvalidRequest]
        assert errors[0].reason is Reason.REQUEST_NOT_FOUND
        tokens, _responses = await rest_of(door, len(had))
        assert had + tokens == TRUE

    at_the_door(act)


def test_ended_requests_are_kept_within_the_bound_of_all() -> None:
    """Not their answers alone: each holds its prompt, and perhaps the prompt's log probabilities."""

    async def act(door: Door) -> None:
        bound = door.resumption._total_bytes = 8000
        for number in range(12):
            request = wish(max_tokens=10)
            request.request_id = "mine" if number == 11 else f"other-{number}"
            had = await read_some(door, request, 10)
            await asyncio.sleep(0.1)
        assert 0 < door.resumption.num_bytes <= bound
        assert 1 <= len(door.resumption) < 12
        tokens, _responses = await rest_of(door, len(had))
        assert (had, tokens) == ([true_token(0, index) for index in range(10)], [])
        with pytest.raises(NotFound) as caught:
            door.resumption.find("other-0", "")
        assert caught.value.reason is Reason.RESUME_EXPIRED

    at_the_door(act)


def test_a_stranger_who_uses_the_same_id_takes_nothing_away() -> None:
    async def act(door: Door) -> None:
        had = await read_some(door, wish(), 5)
        await asyncio.sleep(2.0)  # it ended: the id may be used again
        strangers = wish(max_tokens=2)
        strangers.tenant = "stranger"
        await read_some(door, strangers, 2)
        tokens, _responses = await rest_of(door, len(had))
        assert had + tokens == TRUE

    at_the_door(act)


def test_a_request_that_did_not_ask_for_it_ends_with_its_call() -> None:
    async def act(door: Door) -> None:
        request = wish()
        request.resumable = False
        had = await read_some(door, request, 5)
        await asyncio.sleep(0.1)
        assert door.house.dispatcher.num_active == 0
        with pytest.raises(NotFound) as caught:
            await rest_of(door, len(had))
        assert caught.value.reason is Reason.REQUEST_NOT_FOUND

    at_the_door(act)


def test_a_new_call_takes_the_place_of_one_that_still_hangs() -> None:
    """A half-open connection: the router believes in its client, who is here again."""

    async def act(door: Door) -> None:
        hanging = asyncio.create_task(door.generate(**_fields(wish())))
        await asyncio.sleep(0.15)
        tokens, _responses = await rest_of(door, 0)
        assert tokens == TRUE
        with pytest.raises(Fenced):
            await hanging

    at_the_door(act)


def test_cancelling_ends_a_request_that_waits_for_its_client() -> None:
    async def act(door: Door) -> None:
        had = await read_some(door, wish(max_tokens=3000), 5)
        cancel = generation_pb2.CancelRequestRequest(request_id="mine")
        await call(door.clients.CancelRequest, cancel, peer="router", timeout_s=5)
        await asyncio.sleep(0.1)
        assert door.house.dispatcher.num_active == 0
        with pytest.raises(Cancelled):
            await rest_of(door, len(had))

    at_the_door(act)


@pytest.mark.parametrize("is_resumable", [True, False])
def test_a_request_that_its_router_cannot_finish_is_told_to_be_asked_elsewhere(is_resumable: bool) -> None:
    """Not that somebody cancelled it: what a client does next depends on the status."""

    async def act(door: Door) -> None:
        asking = asyncio.create_task(door.error_of(**{**_fields(wish(400)), "resumable": is_resumable}))
        await asyncio.sleep(0.3)
        await door.house.dispatcher.drain(0.1, hurry=asyncio.Event())
        await door.resumption.close()
        error = await asking
        assert isinstance(error, Unavailable), repr(error)
        assert error.reason is Reason.DRAINING
        assert error.retry_after_s == 1.0
        assert "ask another router" in error.message
        late = await door.error_of(**{**_fields(wish(4)), "request_id": "late", "resumable": is_resumable})
        assert (type(late), late.reason, late.retry_after_s) == (Unavailable, Reason.DRAINING, 1.0)

    at_the_door(act)


def test_two_choices_are_resumed_each_from_its_own_index() -> None:
    async def act(door: Door) -> None:
        tokens: dict[int, list[int]] = {0: [], 1: []}
        async with stream(door.clients.Generate, wish(max_tokens=20, n=2), peer="router", timeout_s=30) as responses:
            async for response in responses:
                for delta in response.deltas:
                    tokens[delta.choice] += delta.token_ids
                if len(tokens[0]) > 4:
                    break
        async for response in resume(door, len(tokens[0]), len(tokens[1])):
            for delta in response.deltas:
                assert delta.first_index == len(tokens[delta.choice])
                tokens[delta.choice] += delta.token_ids
        assert tokens == {choice: [true_token(choice, index) for index in range(20)] for choice in (0, 1)}

    at_the_door(act)


def test_a_bug_ends_its_request_alone_and_its_trace_is_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise KeyError("secret")

    async def act(door: Door) -> None:
        with monkeypatch.context() as patched, capture_logs() as lines:
            patched.setattr(Journey, "_serve", fail)
            error = await door.error_of(**_fields(wish(4)))
        (line,) = [each for each in lines if each["event"] == "journey_failed"]
        assert isinstance(error, InternalError)
        assert "secret" not in error.message
        assert (line["request"], line["exc_info"].__traceback__ is None) == ("mine", False)
        assert len(await door.generate(**{**_fields(wish(4)), "request_id": "next"})) > 0

    at_the_door(act)


def _fields(request: generation_pb2.GenerateRequest) -> dict[str, Any]:
    return {field.name: value for field, value in request.ListFields()}


@pytest.mark.parametrize("resumable", [False, True])
def test_a_client_that_does_not_read_the_end_is_not_told_that_all_is_well(
    monkeypatch: pytest.MonkeyPatch, resumable: bool
) -> None:
    """A stream that lacks its last tokens ends with an error: OK would say that it is whole."""
    write = Reply._write_deltas

    async def stuck(self: Reply, deltas: Sequence[Delta]) -> None:
        if any(delta.finish is not None for delta in deltas):
            await asyncio.Event().wait()
        await write(self, deltas)

    monkeypatch.setattr(Reply, "_write_deltas", stuck)
    monkeypatch.setattr(Reply, "_write_at_once", lambda self, delta: False)

    async def act(door: Door) -> None:
        request = wish()
        request.resumable = resumable
        with pytest.raises(BatonError) as caught:
            async with stream(door.clients.Generate, request, peer="router", timeout_s=30) as responses:
                _ = [response async for response in responses]
        assert caught.value.reason is Reason.SLOW_READER

    at_the_door(act)
