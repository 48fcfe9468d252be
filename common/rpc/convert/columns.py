"""Tokens as columns: what most events are, without their names.

A worker that writes for many requests tells one token of each per step. A request's id, its attempt and its choice are
told once per stream, as a line with a number; a token is then three small integers. The numbers live and die with the
stream: whoever subscribes again begins with none.
"""

from collections.abc import Iterable, Iterator, Sequence

from common.core.events import EventMessage, TokensEmitted, WorkEvent
from common.core.ids import RequestId, TokenId
from common.rpc.convert.events import message_from_wire, message_to_wire
from common.rpc.convert.fields import require
from protos.baton.v1 import worker_pb2

MAX_LINES = 16_384
"""Chosen: more choices than a worker writes at once. Numbers are given in turn, so an old line's is given again; where
it is still written, it is told anew."""

Line = tuple[RequestId, int, int]
"""A request, an attempt, a choice."""


class ColumnsWriter:
    """One stream's messages to the wire. Writer: the stream's handler."""

    def __init__(self, max_lines: int = MAX_LINES) -> None:
        self._numbers: dict[Line, int] = {}
        self._lines: list[Line | None] = [None] * max_lines
        self._next = 0

    def message(self, message: EventMessage, *, now: float) -> worker_pb2.SubscribeResponse:
        """Plain tokens as rows, everything else as `message_to_wire` does."""
        columns = worker_pb2.TokenColumns()
        numbers: list[int] = []
        indexes: list[int] = []
        tokens: list[int] = []
        rest: list[WorkEvent] = []
        late: set[RequestId] = set()
        for event in message.events:
            row = _row(event)
            if row is None or event.request in late or len(numbers) == len(self._lines):
                late.add(event.request)  # rows come first: what follows an event must not overtake it
                rest.append(event)
                continue
            line = (row.request, row.attempt, row.choice)
            number = self._numbers.get(line)
            numbers.append(self._introduce(line, columns, numbers) if number is None else number)
            indexes.append(row.first_index)
            tokens.append(row.tokens[0])
        response = message_to_wire(message, now=now, events=rest)
        if numbers:
            columns.numbers.extend(numbers)
            columns.indexes.extend(indexes)
            columns.token_ids.extend(tokens)
            response.columns.CopyFrom(columns)
        return response

    def _introduce(self, line: Line, columns: worker_pb2.TokenColumns, taken: Sequence[int]) -> int:
        """A number for a line that has none, and none of those that this message has used already. The line that had
        it before is told again if it is written again."""
        while (old := self._lines[self._next]) is not None and self._next in taken:
            self._next = (self._next + 1) % len(self._lines)
        number, self._next = self._next, (self._next + 1) % len(self._lines)
        if old is not None:
            del self._numbers[old]
        self._lines[number] = line
        self._numbers[line] = number
        request, attempt, choice = line
        columns.lines.add(number=number, request_id=request, attempt=attempt, choice=choice)
        return number


class ColumnsReader:
    """One stream's messages from the wire. Writer: whoever reads the stream."""

    def __init__(self) -> None:
        self._lines: dict[int, Line] = {}

    def message(self, message: worker_pb2.SubscribeResponse, *, now: float) -> EventMessage:
        """Rows as the events that they stand for. Raises InvalidRequest."""
        rows = tuple(self._rows(message.columns)) if message.HasField("columns") else ()
        return message_from_wire(message, now=now, rows=rows)

    def _rows(self, columns: worker_pb2.TokenColumns) -> Iterator[TokensEmitted]:
        self._learn(columns.lines)
        lengths = (len(columns.numbers), len(columns.indexes), len(columns.token_ids))
        require(len(set(lengths)) == 1, "columns", f"columns of {lengths} rows")
        lines = self._lines
        require(lines.keys() >= set(columns.numbers), "columns.numbers", "a line that was not told")
        for number, index, token in zip(columns.numbers, columns.indexes, columns.token_ids, strict=True):
            request, attempt, choice = lines[number]
            tokens = (TokenId(token),)
            yield TokensEmitted(request=request, attempt=attempt, choice=choice, first_index=index, tokens=tokens)

    def _learn(self, lines: Iterable[worker_pb2.TokenLine]) -> None:
        for line in lines:
            require(line.number < MAX_LINES, "columns.lines.number", f"numbers are below {MAX_LINES}")
            require(line.request_id != "", "columns.lines.request_id", "missing")
            require(line.attempt >= 1, "columns.lines.attempt", "attempts count from 1")
            self._lines[line.number] = (RequestId(line.request_id), line.attempt, line.choice)


def _row(event: WorkEvent) -> TokensEmitted | None:
    """A token with nothing else to tell of it, or None for everything else."""
    if not isinstance(event, TokensEmitted) or event.finish is not None or event.logprobs or len(event.tokens) != 1:
        return None
    return event
