"""How many tokens of local prompts may join a decode step without breaking the promise on time between tokens."""

from common.core.cost.model import spare_s


class ExtendBudget:
    """Learns what an extended token costs beside decoding rows. Writer: the decode core.

    `ceiling` applies until the first measurement and for ever after; `floor` keeps local prompts from starving.
    """

    SMOOTHING = 0.2  # Chosen: follows a change of load within about ten steps, forgives one slow step.

    def __init__(self, *, itl_budget_s: float, ceiling: int, floor: int) -> None:
        self._itl_budget_s = itl_budget_s
        self._ceiling = ceiling
        self._floor = min(floor, ceiling)
        self._decode_step_s: float | None = None
        self._decode_rows = 0.0
        """Of the steps that `_decode_step_s` is the time of."""
        self._extend_token_s: float | None = None

    def tokens(self, num_decoding: int, *, has_newcomer: bool = False) -> int:
        """Extend tokens that fit beside so many running answers.

        `has_newcomer`: the pages of one have landed since the last step. Its client waits since the first token, which
        was drawn elsewhere, for the step that was under way, and now for this one: it is half as long.
        """
        if self._decode_step_s is None or not self._extend_token_s:
            return self._ceiling
        alone_s = self._decode_step_s + self._unseen(num_decoding) * self._extend_token_s
        budget_s = self._itl_budget_s / 2 if has_newcomer else self._itl_budget_s
        return max(self._floor, min(self._ceiling, int(spare_s(budget_s, alone_s) / self._extend_token_s)))

    def observe(self, *, num_decoding: int, num_extended: int, seconds: float) -> None:
        """One step's facts. Steps of both kinds are split by what decoding alone was seen to cost; answers beyond those
        that were seen alone count as extended tokens, which cost about the same."""
        if num_decoding and not num_extended:
            self._decode_step_s = self._smooth(self._decode_step_s, seconds)
            self._decode_rows = self._smooth(self._decode_rows or None, num_decoding)
        elif num_extended:
            beside = self._decode_step_s if num_decoding and self._decode_step_s is not None else 0.0
            num_tokens = num_extended + self._unseen(num_decoding)
            self._extend_token_s = self._smooth(self._extend_token_s, max(0.0, seconds - beside) / num_tokens)

    def _unseen(self, num_decoding: int) -> float:
        """Answers beyond those of steps that were seen alone: while many prompts are read, all steps are mixed."""
        return max(0.0, num_decoding - self._decode_rows)

    def _smooth(self, old: float | None, new: float) -> float:
        return new if old is None else old + self.SMOOTHING * (new - old)
