"""Our own deserialiser: grpc's answers undecodable bytes with UNKNOWN and names Python classes."""

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError

from common.core.errors import MalformedMessage

M = TypeVar("M")


def decode(raw: bytes, deserializer: Callable[[bytes], M], method: str) -> M:
    """The request message of `method`. Raises MalformedMessage for bytes, UTF-8 or nesting that protobuf refuses."""
    try:
        return deserializer(raw)
    except (DecodeError, RecursionError) as error:
        raise MalformedMessage(
            message=f"{len(raw)} bytes are not the request message of {method}: damaged, invalid UTF-8 in a string, "
            f"or nested too deeply"
        ) from error
