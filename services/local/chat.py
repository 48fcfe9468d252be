"""`baton chat`: a conversation in the terminal. Ctrl-C stops an answer, Ctrl-D leaves."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console

from common.core.clock import Clock
from common.core.errors import BatonError
from protos.baton.v1 import generation_pb2
from services.local.answer import Answer
from services.local.client import RouterClient
from services.local.generate import receipt
from services.local.interrupt import Interrupt
from services.local.printable import printable
from services.local.prompt import check_text, is_text

HELP = """[dim]/new        forget the conversation
/system TEXT  begin anew under this instruction
/help       this list;  Ctrl-C stops an answer, Ctrl-D leaves[/]"""


@dataclass(slots=True)
class Conversation:
    """What was said so far. Writer: the chat's own loop."""

    turns: list[generation_pb2.ChatMessage] = field(default_factory=list)

    def begin(self, system: str = "") -> None:
        self.turns = [generation_pb2.ChatMessage(role="system", content=system)] if system else []

    def request(self, text: str, max_tokens: int | None) -> generation_pb2.GenerateRequest:
        """The whole conversation with one more question. Remembered only when it was answered."""
        messages = [*self.turns, generation_pb2.ChatMessage(role="user", content=text)]
        request = generation_pb2.GenerateRequest(
            chat=generation_pb2.ChatMessages(messages=messages), return_token_ids=True
        )
        if max_tokens is not None:
            request.sampling.max_tokens = max_tokens
        return request

    def remember(self, text: str, answer: str) -> None:
        self.turns.append(generation_pb2.ChatMessage(role="user", content=text))
        self.turns.append(generation_pb2.ChatMessage(role="assistant", content=answer))


class Chat:
    """One sitting."""

    def __init__(
        self, client: RouterClient, console: Console, clock: Clock, *, ask: Callable[[], str], max_tokens: int | None
    ) -> None:
        self._client = client
        self._console = console
        self._clock = clock
        self._ask = ask
        self._max_tokens = max_tokens
        self._talk = Conversation()

    async def run(self, *, system: str, timeout_s: float) -> None:
        """Until the person leaves. An error ends the answer, not the sitting. Raises InvalidRequest for the system's
        words where they are no text."""
        check_text("--system", system)
        self._talk.begin(system)
        model = await self._client.model()
        name = printable(model.name)
        self._console.print(f"{name}, context {model.context_length:,} tokens", style="bold", markup=False)
        self._console.print(HELP, highlight=False)
        while (text := await self._next()) is not None:
            if not is_text(text):
                self._console.print("not sent: that is not UTF-8", style="red")
            elif text.startswith("/"):
                self._command(text)
            elif text:
                await self._reply(text, timeout_s)

    async def _next(self) -> str | None:
        try:
            return (await asyncio.to_thread(self._ask)).strip()  # bounded: a person types or leaves
        except (EOFError, KeyboardInterrupt):
            self._console.print()
            return None

    def _command(self, text: str) -> None:
        name, _, rest = text.partition(" ")
        match name:
            case "/new":
                self._talk.begin()
                self._console.print("forgotten", style="dim")
            case "/system":
                self._talk.begin(rest.strip())
                self._console.print("begun anew", style="dim")
            case _:
                self._console.print(HELP, highlight=False)

    async def _reply(self, text: str, timeout_s: float) -> None:
        answer = Answer(self._clock)

        async def write() -> None:
            request = self._talk.request(text, self._max_tokens)
            async for response in self._client.generate(request, timeout_s=timeout_s):
                piece = printable(answer.take(response))
                self._console.print(piece, end="", markup=False, highlight=False, soft_wrap=True)

        try:
            is_stopped = await Interrupt(lambda: self._console.print(" [dim]stopped[/]", end="")).guard(write())
        except BatonError as error:
            self._console.print(f"\n{printable(error.message)}", style="red", markup=False, highlight=False)
            return
        self._console.print()
        if 0 in answer.choices:
            self._talk.remember(text, answer.choices[0].text)
        if not is_stopped:
            self._console.print(receipt(answer), style="dim", highlight=False, soft_wrap=True)
