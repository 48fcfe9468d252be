"""One choice of a conversation while it is written: what it says, thinks and calls."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, assert_never

from protos.baton.v1 import generation_pb2
from services.gateway.finish import finish_reason, stop_reason
from services.gateway.reading.piece import Call, Content, Piece, PlainReader, Reader, Thought
from services.gateway.reading.thoughts import ThoughtReader, joined
from services.gateway.reading.tools import tool_reader
from services.gateway.routers import Model
from services.gateway.schema.chat import ChatBody

MintId = Callable[[], str]


def make_reader(body: ChatBody, model: Model) -> Reader:
    """How to read what this model answers to this request."""
    tools = {tool.function.name: tool.function.parameters or {} for tool in body.tools or ()}
    reader: Reader = tool_reader(model.tools, tools) if body.wants_tools else PlainReader()
    if not model.thinks:
        return reader
    begin, end = model.thought_open, model.thought_close
    return ThoughtReader(reader, begin=begin, end=end, begins_inside=begins_in_thought(body, model))


def begins_in_thought(body: ChatBody, model: Model) -> bool:
    """Whether the first word of the answer belongs to a thought: that of the template, or of the turn it goes on."""
    if body.continue_final_message:
        said = body.messages[-1].content or ""
        return model.thinks and said.rfind(model.thought_open) > said.rfind(model.thought_close)
    if body.add_generation_prompt is False:
        return False
    if body.may_think is None:
        return model.begins_in_thought
    return model.begins_if_thinking if body.may_think else model.begins_if_not_thinking


@dataclass(slots=True, kw_only=True)
class Turn:
    """Writer: the answer's iteration. `read` gives parts of a message in OpenAI's spelling, as they become certain."""

    reader: Reader
    mint_id: MintId
    max_calls: int | None = None
    """Calls beyond it are not told: who asked for no more cannot take them."""
    num_calls: int = 0
    finish: str | None = None
    stop: str | int | None = None

    def read(self, delta: generation_pb2.ChoiceDelta) -> list[dict[str, Any]]:
        pieces = self.reader.push(delta.text)
        reason = finish_reason(delta)
        if reason is not None:
            pieces += self.reader.finish()
        parts = [part for piece in joined(pieces) for part in self._part(piece)]
        if reason is not None:
            self.finish = "tool_calls" if self.num_calls and reason == "stop" else reason
            self.stop = stop_reason(delta)
        return parts

    def _part(self, piece: Piece) -> Iterator[dict[str, Any]]:
        match piece:
            case Content(text):
                if not self.num_calls or text.strip():  # white space between calls is nobody's
                    yield {"content": text}
            case Thought(text):
                yield {"reasoning_content": text}
            case Call() if self.num_calls == self.max_calls:
                return
            case Call(name, arguments):
                function = {"name": name, "arguments": arguments}
                yield {
                    "tool_calls": [
                        {"index": self.num_calls, "id": self.mint_id(), "type": "function", "function": function}
                    ]
                }
                self.num_calls += 1
            case _:
                assert_never(piece)
