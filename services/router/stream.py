"""What goes back to one client: each choice's tokens exactly once, their text, and a bounded buffer.

The journey writes, the servicer reads. Tokens that the reader has not fetched yet gather in one delta per choice, so a
slow reader costs memory for tokens, not for messages. A full buffer is the journey's to act upon: it pauses the work.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from common.core.aftermath import again
from common.core.errors import BatonError, InternalError
from common.core.events import PromptScored, TokensEmitted
from common.core.ids import TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import Choice, FinishReason
from common.text.choice import ChoiceText
from services.router.delta import Delta, joined
from services.router.order import Ending, Ready, TokenOrder
from services.router.replay import Replay
from services.router.request import Request

MAX_BUFFERED_BYTES = 256 * 1024
"""Chosen: with log probabilities a token takes hundreds of bytes, and counting tokens alone bounds nothing."""

TakeAtOnce = Callable[[Delta], bool]
"""Takes a delta and answers True, or leaves everything as it is."""


@dataclass(eq=False, slots=True)
class _Line:
    """One choice: its order, its text, and what its reader has not fetched."""

    choice: Choice
    text: ChoiceText
    is_plain: bool
    """Of one token nothing is told but its text, which cannot end it."""
    order: TokenOrder = field(default_factory=TokenOrder)
    unread: list[Delta] = field(default_factory=list)
    num_delivered: int = 0
    """Output tokens that count: up to the end of a stop string, not all that were drawn."""
    num_chars: int = 0
    """Characters of text that are on their way to the client, or there."""
    has_sent: bool = False


class RequestStream:
    """Writer: the request's journey. Reader: one servicer."""

    def __init__(
        self, request: Request, texts: Sequence[ChoiceText], *, max_tokens: int, replay: Replay | None = None
    ) -> None:
        self._request = request
        self._tells_logprobs = request.sampling.logprobs is not None
        self._lines = {
            choice.index: _Line(choice=choice, text=text, is_plain=not (self._tells_logprobs or text.has_stops))
            for choice, text in zip(request.choices, texts, strict=True)
        }
        self._max_tokens = max_tokens
        self._replay = replay
        self._scores: list[TokenLogprobs] = []
        self._buffered_tokens = 0
        self._buffered_bytes = 0
        self._error: BatonError | None = None
        self._is_closed = False
        self._reader: asyncio.Future[None] | None = None
        """What the reader waits on, while it does."""
        self._take_at_once: TakeAtOnce | None = None
        self._has_room = asyncio.Event()
        self._has_room.set()
        self.num_duplicates = 0
        self.num_conflicts = 0
        """Indices for which two workers drew different tokens. Anything above 0 is a bug in a worker."""

    def accept(self, event: TokensEmitted) -> Delta | None:
        """Takes a worker's tokens; answers what became deliverable. Raises InternalError on an impossible index."""
        line = self._lines.get(event.choice)
        if line is None:
            return None
        order = line.order
        is_bare = event.finish is None and len(event.tokens) == 1 and not event.logprobs
        if is_bare and line.is_plain and order.take_next(event.first_index, event.tokens[0]):  # nearly every event
            delta = self._spell_next(line, event)
            self._hand_on(line, delta)
            return delta
        ending = None if event.finish is None else Ending(reason=event.finish, stop_token=event.stop_token)
        num_known, conflicts = order.next_index - event.first_index, order.conflicts
        ready = order.accept(event.first_index, event.tokens, ending, event.logprobs)
        self.num_conflicts += order.conflicts - conflicts
        if num_known > 0:
            self.num_duplicates += min(num_known, len(event.tokens))
        if ready is None:
            return None
        delta = self._spell(line, ready)
        self._hand_on(line, delta)
        return delta

    def accept_scores(self, event: PromptScored) -> None:
        """Takes log probabilities of the prompt; what is known already is dropped. Raises InternalError on a gap.

        Bounded by MAX_PROMPT_SCORES, and kept as long as the stream: the reader takes them at its own pace.
        """
        known = len(self._scores) + 1
        if event.first_position > known:
            raise InternalError(message=f"{event.request}: scores of position {known} are missing")
        self._scores += event.logprobs[known - event.first_position :]

    def scores_from(self, position: int, count: int) -> tuple[TokenLogprobs, ...]:
        """At most `count` known log probabilities of the prompt, from `position` on; positions count from 1."""
        return tuple(self._scores[position - 1 : position - 1 + count])

    @property
    def wants_scores(self) -> bool:
        """Whether log probabilities of the prompt are asked for and still missing."""
        is_asked = self._request.sampling.prompt_logprobs is not None
        return is_asked and len(self._scores) < len(self._request.prompt) - 1

    def emitted(self, choice: int) -> tuple[TokenId, ...]:
        """Tokens of a choice that the client has or will have: what another attempt continues from."""
        return tuple(self._lines[choice].order.tokens)

    def num_emitted(self, choice: int) -> int:
        """How many they are."""
        return len(self._lines[choice].order.tokens)

    def unfinished(self, choices: Sequence[Choice]) -> tuple[Choice, ...]:
        return tuple(choice for choice in choices if self._lines[choice.index].order.ending is None)

    @property
    def num_delivered(self) -> int:
        """Output tokens of all choices: what usage reports."""
        return sum(line.num_delivered for line in self._lines.values())

    @property
    def is_full(self) -> bool:
        return not self._has_room.is_set()

    @property
    def _is_half_full(self) -> bool:
        return 2 * self._buffered_tokens > self._max_tokens or 2 * self._buffered_bytes > MAX_BUFFERED_BYTES

    async def wait_room(self) -> None:
        """Until the reader has taken half of what was buffered. The caller bounds the wait."""
        await self._has_room.wait()  # bounded: by the journey, with slow_reader_s

    def close(self, error: BatonError | None = None) -> None:
        """Nothing more will come. The reader still gets what is buffered, then the error. The first call counts."""
        if not self._is_closed:
            self._is_closed, self._error = True, error
            self._wake_reader()

    async def read(self) -> tuple[Delta, ...] | None:
        """The next deltas, at most one per choice, or None at the end. Raises the error that ended the request.

        Bounded by the journey: it closes the stream at the deadline at the latest.
        """
        while await self.wait_ready():
            if ready := self.fetch():
                return ready
        return None

    async def wait_ready(self, take_at_once: TakeAtOnce | None = None) -> bool:
        """Until `fetch` has something; False at the end. Raises the error that ended the request. Bounded as `read`.

        What comes of an only choice during the wait, and is worth sending by itself, is offered to `take_at_once`
        first, in the turn of the loop in which it came: where that answers True, the wait goes on.
        """
        while not self._ready_lines():
            if self._is_closed:
                if self._error is not None:
                    raise again(self._error)
                return False
            self._reader = asyncio.get_running_loop().create_future()
            self._take_at_once = take_at_once if len(self._lines) == 1 else None
            try:
                await self._reader  # bounded: the journey closes the stream at its deadline
            finally:
                self._reader = self._take_at_once = None
        return True

    def fetch(self) -> tuple[Delta, ...]:
        """What is worth sending now, at most one delta per choice."""
        return tuple([self._fetch(line) for line in self._ready_lines()])

    def _ready_lines(self) -> list[_Line]:
        return [line for line in self._lines.values() if line.unread and self._is_worth_sending(line, line.unread)]

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _spell_next(self, line: _Line, event: TokensEmitted) -> Delta:
        """`_spell` of one token of a plain line."""
        offset = line.num_chars
        text = line.text.push_next(event.tokens[0])
        line.num_delivered += 1
        line.num_chars += len(text)
        return Delta(
            choice=event.choice,
            first_index=event.first_index,
            tokens=event.tokens,
            text=text,
            text_offset=offset,
            offsets=(offset,),
        )

    def _spell(self, line: _Line, ready: Ready) -> Delta:
        """Tokens into text. A stop string ends the choice here, before the worker knows."""
        tokens, ending = ready.tokens, ready.ending
        piece = line.text.push(tokens, is_last=ending is not None, stop_token=_stop_token(ready) if ending else None)
        if piece.stop_string is not None:
            ending = Ending(reason=FinishReason.STOP)
            line.order.close(ending)
            tokens = tokens[: piece.num_tokens]
        delta = Delta(
            choice=line.choice.index,
            first_index=ready.first_index,
            tokens=tokens,
            text=piece.text,
            text_offset=line.num_chars,
            logprobs=self._told(ready)[: piece.num_tokens] if self._tells_logprobs else (),
            offsets=piece.offsets,
            finish=ending.reason if ending else None,
            stop_string=piece.stop_string,
            stop_token=ending.stop_token if ending else None,
        )
        line.num_delivered += len(tokens)
        line.num_chars += len(piece.text)
        return delta

    def _told(self, ready: Ready) -> tuple[TokenLogprobs, ...]:
        """Log probabilities of ready tokens, which were asked for. Raises InternalError where a worker told none."""
        told = tuple(each for each in ready.logprobs if each is not None)
        if len(told) != len(ready.tokens):
            raise InternalError(message=f"{self._request.id}: a worker told no log probabilities, though asked")
        return told

    def _hand_on(self, line: _Line, delta: Delta) -> None:
        """To the reader at once, where it waits and nothing is before it; else to what is unread."""
        is_waited_for = self._reader is not None and not self._reader.done()
        if is_waited_for and self._take_at_once is not None and not line.unread:
            parts = (delta,)
            if self._is_worth_sending(line, parts) and self._take_at_once(delta):
                self._note_sent(line, parts)
                return
        self._store(line, delta)
        if is_waited_for and self._is_worth_sending(line, line.unread):
            self._wake_reader()

    def _store(self, line: _Line, delta: Delta) -> None:
        line.unread.append(delta)
        self._buffered_tokens += len(delta.tokens)
        self._buffered_bytes += delta.cost_bytes
        if self._buffered_tokens >= self._max_tokens or self._buffered_bytes >= MAX_BUFFERED_BYTES:
            self._has_room.clear()

    def _fetch(self, line: _Line) -> Delta:
        """Everything that one choice has, as one delta."""
        parts, line.unread = line.unread, []
        for part in parts:
            self._buffered_tokens -= len(part.tokens)
            self._buffered_bytes -= part.cost_bytes
        if self.is_full and not self._is_half_full:
            self._has_room.set()
        self._note_sent(line, parts)
        return joined(parts)

    def _note_sent(self, line: _Line, parts: Sequence[Delta]) -> None:
        line.has_sent = True
        if self._replay is not None:
            self._replay.keep(parts)

    def _is_worth_sending(self, line: _Line, parts: Sequence[Delta]) -> bool:
        """What a line has for its reader. Not an empty message; not fewer tokens than the client wants to gather, but
        the first at once; and all there is at the end, or when not much more can be kept: the work would wait for a
        reader that waits for the work."""
        last, rules = parts[-1], self._request.text
        has_content = rules.return_token_ids or last.text or any(part.text for part in parts)
        if has_content and (rules.stream_interval <= 1 or not line.has_sent):
            return True  # nearly every time
        if self._is_closed or last.finish is not None or self._is_half_full:
            return True
        return bool(has_content) and sum(len(part.tokens) for part in parts) >= rules.stream_interval


def _stop_token(ready: Ready) -> TokenId | None:
    """The stop token, if it is among these tokens: an end may arrive behind the token that caused it."""
    return ready.ending.stop_token if ready.ending and ready.tokens else None
