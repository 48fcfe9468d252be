"""HTTP/2 on the wire, as much of it as one gRPC client needs (RFC 9113, RFC 7541).

Header blocks are written as plain literals. They are read without a dynamic table, which the client's settings forbid
the server to use; a value in Huffman's code is left out.
"""

from collections.abc import Iterator
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
MAX_FRAME_BYTES = 16_384
"""What every peer takes without being asked."""

FIRST_WINDOW_BYTES = 65_535
MAX_WINDOW_BYTES = 2**31 - 1


class Kind(IntEnum):
    """Types of frames that are written or acted upon."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag(IntEnum):
    NONE = 0
    END_STREAM = 1
    ACK = 1
    END_HEADERS = 4
    PADDED = 8
    PRIORITY = 32


class Setting(IntEnum):
    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    INITIAL_WINDOW_SIZE = 4


def frame(kind: Kind, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def settings(values: dict[Setting, int]) -> bytes:
    payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values.items())
    return frame(Kind.SETTINGS, Flag.NONE, 0, payload)


def window_update(stream: int, num_bytes: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, Flag.NONE, stream, num_bytes.to_bytes(4, "big"))


def header_block(headers: dict[str, str]) -> bytes:
    """Literals without indexing, names included: nothing that a decoder has to remember."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers.items())


def read_headers(block: bytes) -> dict[str, str]:
    """Literals by name. Entries of the static table, and what is in Huffman's code, are read over.

    Raises ValueError for a block that ends too early.
    """
    return dict(_literals(block))


def _literals(block: bytes) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(block):
        first = block[at]
        if first & 0x80:  # an entry of the table, value included
            _, at = _integer(block, at, 7)
            continue
        if first & 0xE0 == 0x20:  # the table's new size
            _, at = _integer(block, at, 5)
            continue
        index, at = _integer(block, at, 6 if first & 0x40 else 4)
        name: str | None = None
        if index == 0:
            name, at = _string(block, at)
        value, at = _string(block, at)
        if name is not None and value is not None:
            yield name, value


def _integer(block: bytes, at: int, prefix_bits: int) -> tuple[int, int]:
    """A number and the place after it."""
    most = (1 << prefix_bits) - 1
    number = _byte(block, at) & most
    at += 1
    if number < most:
        return number, at
    shift = 0
    while True:
        byte = _byte(block, at)
        at += 1
        number += (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return number, at


def _string(block: bytes, at: int) -> tuple[str | None, int]:
    is_huffman = bool(_byte(block, at) & 0x80)
    length, at = _integer(block, at, 7)
    if at + length > len(block):
        raise ValueError("a header block ends amid a string")
    return None if is_huffman else block[at : at + length].decode("latin-1"), at + length


def _byte(block: bytes, at: int) -> int:
    if at >= len(block):
        raise ValueError("a header block ends amid a number")
    return block[at]


def _text(value: str) -> bytes:
    raw = value.encode("ascii")
    return _length(len(raw)) + raw


def _length(number: int) -> bytes:
    """With a prefix of seven bits."""
    if number < 0x7F:
        return bytes((number,))
    number -= 0x7F
    out = bytearray((0x7F,))
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
