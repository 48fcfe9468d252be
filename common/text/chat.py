"""Chat messages to token ids, by the model's own template. The door of `jinja2`.

The template is the model author's, the messages are the client's; only the template's own text may contain control
tokens. So before rendering, each message is marked: an invisible mark follows every character that could begin a
control token, and surrounds the message. Whatever the template does with it, no control token's spelling survives in
it or across its edges; after the split at control tokens the marks are taken out. Stretches between two control tokens
are encoded as one plain text, as the model saw them in training.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import jinja2

from common.core.clock import Clock, SystemClock
from common.core.errors import FieldViolation, InternalError, InvalidRequest, Reason, StartupError
from common.core.ids import TokenId
from common.text.conversation import (
    MAX_DEPTH,
    MAX_MESSAGES,
    ROLES,
    ChatMessage,
    Conversation,
    ToolsTrouble,
    depth,
    read_tools,
)
from common.text.finder import finder
from common.text.habits import MAX_OPENING_CHARS, habits
from common.text.marking import Marking, unused_marks
from common.text.sandbox import RefusedByTemplate, TemplateSandbox, bounded_range, today
from common.text.tokenizer import Tokenizer

MAX_TEMPLATE_CHARS = 256 << 10
MAX_RENDERED_CHARS = 8 << 20
"""Chosen: eight times the largest request, so that no honest template reaches it."""
MAX_RENDER_S = 1.0

WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""Unicode's White_Space, which is what tokens swallow; Python's own notion of it knows four more."""


class ChatTemplate:
    """A compiled template. Immutable; safe to share between tasks and threads."""

    def __init__(self, tokenizer: Tokenizer, *, clock: Clock | None = None) -> None:
        """Raises StartupError when a template is too long or no template."""
        source, with_tools = tokenizer.chat_template, tokenizer.tool_template
        assert source is not None, "a model without a chat template cannot chat"
        self._tokenizer = tokenizer
        self._clock = clock or SystemClock()
        self._template = _compiled(source)
        self._with_tools = self._template if with_tools is None else _compiled(with_tools)
        self._control = finder(tokenizer.control.ids)
        self._marking = Marking.against(tokenizer.control.ids)
        hidden = [spelling for spelling, token in tokenizer.control.ids.items() if token in tokenizer.control.hidden]
        self.habits = habits(source + (with_tools or ""), self._opening, frozenset(hidden))

    def encode(self, talk: Conversation) -> tuple[TokenId, ...]:
        """Token ids of the whole conversation. Raises InvalidRequest: unknown role, or refused by the template."""
        _check(talk)
        tools = _tools(talk.tools_json)
        mark, end = _marks(talk)
        marking = replace(self._marking, mark=mark)
        turns = [_turn(message, marking) for message in talk.messages]
        if talk.continues_last:
            turns[-1]["content"] += end  # also behind white space, which templates would trim
        variables: dict[str, object] = {
            "messages": turns,
            "tools": marking.value(list(tools)) or None,
            "add_generation_prompt": talk.opens_answer and not talk.continues_last,
        }
        if talk.enable_thinking is not None:
            variables["enable_thinking"] = talk.enable_thinking
        rendered = self._render(variables)
        if talk.continues_last:
            rendered = _until(rendered, end)
        return tuple(token for piece in self._pieces(rendered, marking) for token in piece)

    def _opening(self, enable_thinking: bool | None) -> str:
        """How the template begins an answer, as far as it can be had from a short conversation."""
        said: dict[str, object] = {"messages": [{"role": "user", "content": "hi"}], "add_generation_prompt": True}
        if enable_thinking is not None:
            said["enable_thinking"] = enable_thinking
        try:
            rendered = self._render(said)
        except InvalidRequest:
            return ""
        return rendered[-MAX_OPENING_CHARS:]

    def _render(self, variables: Mapping[str, object]) -> str:
        control = self._tokenizer.control
        give_up_at = self._clock.monotonic() + MAX_RENDER_S
        chunks: list[str] = []
        num_chars = 0
        try:
            for chunk in (self._with_tools if variables.get("tools") else self._template).generate(
                {
                    **control.named,
                    **variables,
                    "bos_token": control.bos,
                    "eos_token": control.eos,
                    "range": bounded_range(),
                    "strftime_now": today(self._clock.wall()),
                }
            ):
                chunks.append(chunk)
                num_chars += len(chunk)
                if num_chars > MAX_RENDERED_CHARS or self._clock.monotonic() > give_up_at:
                    raise InternalError(message=f"the chat template wrote {num_chars} characters and did not end")
        except RefusedByTemplate as error:
            raise _refuse("chat.messages", f"the model's chat template refuses them: {error}") from error
        except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
            # What a template can do wrong with this conversation; its text may quote the messages, so it is not told.
            raise _refuse(
                "chat.messages", f"the model's chat template fails on them: {type(error).__name__}"
            ) from error
        return "".join(chunks)

    def _pieces(self, rendered: str, marking: Marking) -> Iterator[tuple[TokenId, ...]]:
        control, before, start = self._tokenizer.control, "", 0
        for found in self._control.finditer(rendered):
            yield self._plain(rendered[start : found.start()], marking, before=before, after=found.group())
            yield (control.ids[found.group()],)
            before, start = found.group(), found.end()
        yield self._plain(rendered[start:], marking, before=before, after="")

    def _plain(self, text: str, marking: Marking, *, before: str, after: str) -> tuple[TokenId, ...]:
        """A stretch between two control tokens; empty ones stand for the ends of the whole."""
        text = marking.removed(text)
        if before in self._tokenizer.control.eats_after:
            text = text.lstrip(WHITE_SPACE)
        if after in self._tokenizer.control.eats_before:
            text = text.rstrip(WHITE_SPACE)
        if not text:
            return ()
        return self._tokenizer.encode_on(text) if before else self._tokenizer.encode(text, add_special_tokens=False)


def _compiled(source: str) -> jinja2.Template:
    if len(source) > MAX_TEMPLATE_CHARS:
        raise _broken(f"{len(source)} characters, at most {MAX_TEMPLATE_CHARS}")
    try:
        return TemplateSandbox().from_string(source)
    except jinja2.TemplateError as error:
        raise _broken(f"{type(error).__name__}: {error}") from error


def _turn(message: ChatMessage, marking: Marking) -> dict[str, Any]:
    """As templates expect it: a key is absent where there is nothing to say."""
    marked = marking.turn if message.role == "assistant" else marking.text
    turn: dict[str, Any] = {"role": message.role, "content": marked(message.content)}
    if message.reasoning:
        turn["reasoning_content"] = marking.text(message.reasoning)
    if message.name:
        turn["name"] = marking.word(message.name)
    if message.tool_call_id:
        turn["tool_call_id"] = marking.word(message.tool_call_id)
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": marking.word(call.id),
                "type": "function",
                "function": {"name": marking.word(call.name), "arguments": marking.value(_arguments(call.arguments))},
            }
            for call in message.tool_calls
        ]
    return turn


def _arguments(text: str) -> Any:
    """As an object, which most templates write as JSON again; as it was, where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) and depth(value) <= MAX_DEPTH else text


def _marks(talk: Conversation) -> tuple[str, ...]:
    """Two: what keeps the clients' words apart, and where an answer goes on."""
    said = [talk.tools_json]
    for message in talk.messages:
        said += [message.content, message.reasoning, message.name, message.tool_call_id]
        said += [text for call in message.tool_calls for text in (call.id, call.name, call.arguments)]
    if (marks := unused_marks(said, 2)) is None:
        raise _refuse("chat.messages", "every one of Unicode's noncharacters appears in the messages")
    return marks


def _until(rendered: str, end: str) -> str:
    """Up to where the last message's content ends, which a template may have written more than once."""
    before, found, _after = rendered.rpartition(end)
    if not found:
        raise _refuse("chat.continues_last", "the model's chat template does not show the last message as it is")
    return before.replace(end, "")


def _tools(tools_json: str) -> tuple[Mapping[str, Any], ...]:
    try:
        return read_tools(tools_json)
    except ToolsTrouble as trouble:
        raise _refuse(f"chat.{trouble.field}", trouble.why) from trouble


def _check(talk: Conversation) -> None:
    messages = talk.messages
    if not messages:
        raise _refuse("chat.messages", "empty")
    if len(messages) > MAX_MESSAGES:
        raise _refuse("chat.messages", f"{len(messages)} messages, at most {MAX_MESSAGES}")
    unknown = [
        FieldViolation(field=f"chat.messages[{index}].role", description=f"must be one of {', '.join(ROLES)}")
        for index, message in enumerate(messages)
        if message.role not in ROLES
    ]
    if unknown:
        raise InvalidRequest(message=f"{len(unknown)} messages have an unknown role", violations=tuple(unknown))
    if talk.continues_last and (messages[-1].role != "assistant" or not messages[-1].content):
        raise _refuse("chat.continues_last", "the last message is no text of the assistant's")
    if talk.continues_last and messages[-1].tool_calls:
        raise _refuse("chat.continues_last", "the last message has called tools: nothing goes on within it")


def _refuse(field: str, why: str) -> InvalidRequest:
    return InvalidRequest(message=f"{field}: {why}", violations=(FieldViolation(field=field, description=why),))


def _broken(why: str) -> StartupError:
    return StartupError(message=f"tokenizer_config.json: chat_template: {why}", reason=Reason.MODEL_LOAD_FAILED)
