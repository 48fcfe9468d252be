"""Nothing that a model writes is an order to the terminal."""

import io

import pytest
from rich.console import Console

from common.core.clock import ManualClock
from protos.baton.v1 import generation_pb2
from services.local import generate
from services.local.chat import Chat
from services.local.printable import printable

EVIL = {
    "\x1b[2Jgone": "[2Jgone",
    "\x1b]0;title\x07": "]0;title",
    "\x9b31m": "31m",
    "a\rb\x08c\x7f": "abc",
    "\u202egnp.exe\u2066": "gnp.exe",
}


@pytest.mark.parametrize("text", EVIL)
def test_sequences_lose_what_makes_them_sequences(text: str) -> None:
    assert printable(text) == EVIL[text]


def test_everything_else_stays() -> None:
    text = "a\tb\nc é \u05d0 \U0001f468\u200d\U0001f469 \ufeff <|im_end|>"
    assert printable(text) == text


class Said:
    """A client whose model writes escape sequences, one of them in two pieces."""

    async def model(self):
        return generation_pb2.GetModelResponse(name="tiny\x1b[5m", context_length=64)

    async def generate(self, request, *, timeout_s):
        for index, text in enumerate(("\x1b", "[31mred", "\x1b]52;c;eA==\x07")):
            delta = generation_pb2.ChoiceDelta(first_index=index, text=text, token_ids=[1])
            yield generation_pb2.GenerateResponse(deltas=[delta])


async def test_the_chat_shows_them_harmless_and_remembers_what_was_written() -> None:
    lines, screen = iter(["hi"]), io.StringIO()

    def ask() -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    chat = Chat(Said(), Console(file=screen, width=100), ManualClock(), ask=ask, max_tokens=None)
    await chat.run(system="", timeout_s=1.0)
    assert "[31mred" in screen.getvalue()
    assert "\x1b" not in screen.getvalue()
    assert "\x07" not in screen.getvalue()
    assert "\x1b" in chat._talk.turns[-1].content


@pytest.mark.parametrize("is_terminal", [True, False])
async def test_generate_is_harmless_on_a_terminal_and_exact_in_a_pipe(monkeypatch, is_terminal: bool) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: is_terminal)
    monkeypatch.setattr("sys.stdout", screen)
    request = generation_pb2.GenerateRequest(text="x")
    await generate.run(Said(), request, timeout_s=1.0, clock=ManualClock(), as_json=False)
    assert ("\x1b" in screen.getvalue()) is not is_terminal
