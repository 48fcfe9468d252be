"""`baton chat`: what a person sees, and what the router is asked."""

import io
from collections.abc import AsyncIterator

from rich.console import Console

from common.core.clock import ManualClock
from common.core.errors import Unavailable
from protos.baton.v1 import generation_pb2, types_pb2
from services.local.chat import Chat


class PlayedClient:
    """Answers every question with its number, fails the ones told to."""

    def __init__(self, *, failing: frozenset[int] = frozenset()) -> None:
        self.asked: list[generation_pb2.GenerateRequest] = []
        self._failing = failing

    async def model(self) -> generation_pb2.GetModelResponse:
        return generation_pb2.GetModelResponse(name="tiny", context_length=64)

    async def generate(
        self, request: generation_pb2.GenerateRequest, *, timeout_s: float
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        self.asked.append(request)
        number = len(self.asked)
        if number in self._failing:
            raise Unavailable(message="nobody is home")
        delta = generation_pb2.ChoiceDelta(text=f"answer {number}", token_ids=[number], finish_reason=1)
        yield generation_pb2.GenerateResponse(request_id="r", deltas=[delta])
        yield generation_pb2.GenerateResponse(usage=types_pb2.Usage(prompt_tokens=3, completion_tokens=1))


async def sit(client: PlayedClient, *lines: str, system: str = "") -> str:
    said = iter(lines)

    def ask() -> str:
        try:
            return next(said)
        except StopIteration:
            raise EOFError from None

    screen = io.StringIO()
    console = Console(file=screen, width=100)
    await Chat(client, console, ManualClock(), ask=ask, max_tokens=None).run(system=system, timeout_s=1.0)
    return screen.getvalue()


def asked(request: generation_pb2.GenerateRequest) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in request.chat.messages]


async def test_every_question_carries_the_conversation_before_it():
    client = PlayedClient()
    screen = await sit(client, "one", "two", system="be brief")
    assert "answer 1" in screen
    assert asked(client.asked[1]) == [
        ("system", "be brief"),
        ("user", "one"),
        ("assistant", "answer 1"),
        ("user", "two"),
    ]


async def test_a_question_that_failed_is_not_remembered_and_the_sitting_goes_on():
    client = PlayedClient(failing=frozenset({1}))
    screen = await sit(client, "one", "two")
    assert "nobody is home" in screen
    assert asked(client.asked[1]) == [("user", "two")]


async def test_commands_forget_and_instruct():
    client = PlayedClient()
    await sit(client, "one", "/new", "two", "/system speak Czech", "three", "", "/what")
    assert asked(client.asked[1]) == [("user", "two")]
    assert asked(client.asked[2]) == [("system", "speak Czech"), ("user", "three")]
    assert len(client.asked) == 3


async def test_a_line_that_is_no_text_is_not_sent_and_ends_nothing():
    client = PlayedClient()
    screen = await sit(client, b"\xff\xff".decode("utf-8", "surrogateescape"), "one")
    assert "not sent: that is not UTF-8" in screen
    assert [asked(request) for request in client.asked] == [[("user", "one")]]
