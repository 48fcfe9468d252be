"""How far a prefill worker is with a prompt, as it tells: what the leg asks when that worker begins to leave."""

from dataclasses import dataclass

from common.core.events import PrefillDone, StationReached
from common.observe.lifetime import Station
from services.router.inbox import Draining

READ_SHARE = 0.5
"""Chosen: a prompt that is being read stays when what is left takes at most this share of the time that is left. What
was read is lost elsewhere; the other half is for the estimate's error, and for another worker to have time too."""


FIRST_STEPS = 2
"""Chosen: the step that was under way when it was begun, and its own."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """Of one prompt of `num_tokens`. Writer: its leg. What an earlier attempt was told of is forgotten."""

    num_tokens: int
    _attempt: int = 0
    _is_read: bool = False
    _began_at: float | None = None
    _first_tokens: float = 0
    """What the cache held when it was begun."""
    _at: float = 0.0
    _num_computed: float = 0

    def note(self, event: PrefillDone | StationReached) -> None:
        """News of the prefill worker that has the prompt."""
        if event.attempt > self._attempt:
            self._attempt, self._is_read, self._began_at = event.attempt, False, None
        if isinstance(event, PrefillDone):
            self._is_read = True
        elif event.name == Station.PREFILL_STARTED:
            self._began_at = self._at = event.at
            self._first_tokens = self._num_computed = event.facts.get("cached_tokens", 0)
        elif event.name == Station.CHUNK_COMPUTED:
            self._at, self._num_computed = event.at, event.facts.get("tokens", 0)

    def is_read(self, attempt: int) -> bool:
        """Whether this attempt's prompt was read to its end."""
        return self._is_read and attempt == self._attempt

    def stays(self, attempt: int, draining: Draining, now: float) -> bool:
        """Whether this attempt's prompt is better left where it is: read, or being read and over in time."""
        if attempt != self._attempt:
            return False
        if self._is_read or self._began_at is None:
            return self._is_read
        if self._num_computed <= self._first_tokens:  # in its first step, or behind others in every step
            return now - self._began_at <= FIRST_STEPS * draining.step_s
        token_s = (self._at - self._began_at) / (self._num_computed - self._first_tokens)
        return (self.num_tokens - self._num_computed) * token_s <= READ_SHARE * draining.left_s
