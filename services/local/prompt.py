"""Where a prompt comes from: the argument, a file, or standard input."""

import sys
from pathlib import Path

from common.core.errors import FieldViolation, InvalidRequest
from protos.baton.v1 import generation_pb2

MAX_TOKEN_ID = 2**32 - 1


def read_prompt(argument: str | None, file: Path | None) -> str:
    """The text, byte for byte. Raises InvalidRequest when it cannot be read or is not UTF-8."""
    if argument is not None and file is not None:
        raise _refused("--file", "a prompt as argument and --file exclude each other")
    if argument is not None:
        check_text("prompt", argument)
        return argument
    if file is None and sys.stdin.isatty():
        sys.stderr.write("type the prompt, end it with Ctrl-D:\n")
    try:
        raw = sys.stdin.buffer.read() if file is None else file.read_bytes()
        return raw.decode("utf-8")
    except OSError as error:
        raise _refused("--file", f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        where = file or "standard input"
        raise _refused("prompt", f"{where} is not UTF-8: byte {error.start} cannot be decoded") from error


def is_text(typed: str) -> bool:
    """Whether it was UTF-8: Python keeps other bytes as halves of surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in typed)


def check_text(field: str, typed: str) -> None:
    """Raises InvalidRequest for an argument that is not UTF-8."""
    if not is_text(typed):
        why = "the argument is not UTF-8"
        raise InvalidRequest(message=f"{field}: {why}", violations=(FieldViolation(field=field, description=why),))


def put_prompt(request: generation_pb2.GenerateRequest, prompt: str, *, is_tokens: bool, is_chat: bool) -> None:
    """Into the message, as the kind that the flags name. Raises InvalidRequest."""
    if is_tokens and is_chat:
        raise _refused("--chat", "token ids cannot be a user's message: give --tokens or --chat")
    if is_tokens:
        request.token_ids.ids.extend(parse_token_ids(prompt))
    elif is_chat:
        request.chat.messages.append(generation_pb2.ChatMessage(role="user", content=prompt))
    else:
        request.text = prompt


def parse_token_ids(text: str) -> list[int]:
    """Token ids separated by commas or blanks. Raises InvalidRequest."""
    words = text.replace(",", " ").split()
    wrong = [word for word in words if not (word.isascii() and word.isdigit() and int(word) <= MAX_TOKEN_ID)]
    if wrong:
        raise _refused("--tokens", f"takes token ids like 1,2,3: {wrong[0][:40]!r} is none")
    return [int(word) for word in words]


def _refused(field: str, description: str) -> InvalidRequest:
    return InvalidRequest(
        message="the prompt cannot be used", violations=(FieldViolation(field=field, description=description),)
    )
