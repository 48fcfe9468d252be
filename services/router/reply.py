"""What is written to one client's call: the prompt, its log probabilities, deltas, the last response."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress

from common.core.errors import BatonError, Reason, Refused
from common.core.ids import RequestId
from common.rpc.deadline import DEADLINE_KEY
from services.router.delta import Delta
from services.router.frontend_messages import (
    Response,
    Wrap,
    as_it_is,
    last_response,
    new_response,
    prompt_scores_to_wire,
    tell_delta,
    tell_prompt,
)
from services.router.journey import Journey
from services.router.language import Language
from services.router.pen import Context, Pen

REQUEST_ID_KEY = "baton-request-id"
"""Initial metadata of Generate and Resume: the request's id, the client's own or a minted one."""

FLUSH_S = 5.0
"""Chosen: how long the last deltas of an ended request may take to leave. The work is over by then."""

SCORES_OF_MESSAGE = 1024
"""Chosen: with 20 likeliest tokens each, under a tenth of the largest reply."""


class Reply:
    """One call's view of a journey. Owner: the handler of the call; the journey's stream has one reader at a time."""

    def __init__(self, journey: Journey, context: Context, language: Language, wrap: Wrap = as_it_is) -> None:
        self._journey = journey
        self._wrap = wrap
        self._context = context
        self._pen = Pen(context)
        self._spell = language.spell
        self._with_ids = journey.request.text.return_token_ids
        self._is_first = True
        self._next_position = 1

    async def begin(self, allowed_s: float) -> None:
        """Tells the client how its request is called, and the deadline that it got."""
        name = self._journey.request.id
        header = ((REQUEST_ID_KEY, name), (DEADLINE_KEY, str(round(allowed_s * 1000))))
        await self._context.send_initial_metadata(header)

    def skip_prompt(self) -> None:
        """The client has the prompt and its log probabilities."""
        self._next_position = len(self._journey.request.prompt)
        self._is_first = False

    async def write(self, given: Sequence[Delta] = ()) -> None:
        """Everything the client gets but the status: first what it was `given` before, then what is new.

        Held up by nothing but the client's own reading. The error that ended the request is the caller's to raise.
        """
        stream = self._journey.stream
        take_at_once = None if self._wants_scores else self._write_at_once
        try:
            if given:
                await self._write_deltas(given)
            with suppress(BatonError):
                while await stream.wait_ready(take_at_once):
                    await self._pen.wait_free()
                    if deltas := stream.fetch():
                        await self._write_deltas(deltas)
                await self._write(last_response(self._journey.record))
            await self._pen.wait_free()
        finally:
            self._pen.leave()

    @property
    def _wants_scores(self) -> bool:
        return self._journey.request.sampling.prompt_logprobs is not None

    def _write_at_once(self, delta: Delta) -> bool:
        """A token of a client that keeps up costs no change of tasks. While a message is under way tokens gather."""
        if not self._pen.is_free():
            return False
        response = self._response()
        tell_delta(response, delta, with_ids=self._with_ids, spell=self._spell)
        self._pen.begin(self._wrap(response))
        return True

    async def _write_deltas(self, deltas: Iterable[Delta]) -> None:
        if self._wants_scores:
            await self._write_scores()
        await self._write(self._told(deltas))

    async def _write(self, response: Response) -> None:
        """Behind the message that is under way. Returns when the transport has it."""
        await self._pen.wait_free()
        self._pen.begin(self._wrap(response))
        await self._pen.wait_free()

    def _told(self, deltas: Iterable[Delta]) -> Response:
        response = self._response()
        for delta in deltas:
            tell_delta(response, delta, with_ids=self._with_ids, spell=self._spell)
        return response

    async def _write_scores(self) -> None:
        """All that is known when the first delta comes, which is all there is."""
        journey = self._journey
        while scores := journey.stream.scores_from(self._next_position, SCORES_OF_MESSAGE):
            response = self._response()
            response.prompt_logprobs.CopyFrom(
                prompt_scores_to_wire(journey.request.prompt, self._next_position, scores, self._spell)
            )
            self._next_position += len(scores)
            await self._write(response)

    def _response(self) -> Response:
        """The next one; the first tells the prompt."""
        response = new_response(self._journey.request)
        if self._is_first:
            self._is_first = False
            tell_prompt(response, self._journey.request)
        return response


async def flush(writer: asyncio.Task[None]) -> bool:
    """Waits until the client has taken what it has not read yet. False for one that does not read: it lacks the end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FLUSH_S):
            await writer
    return not writer.cancelled()


def missed_the_end(request: RequestId) -> Refused:
    """A stream without its last deltas may not look like one that is whole."""
    return Refused(
        message=f"{request}: the client did not read its last tokens for {FLUSH_S:.0f} s",
        reason=Reason.SLOW_READER,
        quota_subject="stream buffer",
    )
