"""How many tokens of local prompts may join a decode step without breaking the promise on time between tokens."""


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
        self._extend_token_s: float | None = None

    @property
    def tokens(self) -> int:
        """Extend tokens that fit beside the running answers."""
        if self._decode_step_s is None or not self._extend_token_s:
            return self._ceiling
        spare_s = max(0.0, self._itl_budget_s - self._decode_step_s)
        return max(self._floor, min(self._ceiling, int(spare_s / self._extend_token_s)))

    def observe(self, *, num_decoding: int, num_extended: int, seconds: float) -> None:
        """One step's facts. Steps of both kinds are split by what decoding alone was seen to cost."""
        if num_decoding and not num_extended:
            self._decode_step_s = self._smooth(self._decode_step_s, seconds)
        elif num_extended:
            beside = self._decode_step_s if num_decoding and self._decode_step_s is not None else 0.0
            self._extend_token_s = self._smooth(self._extend_token_s, max(0.0, seconds - beside) / num_extended)

    def _smooth(self, old: float | None, new: float) -> float:
        return new if old is None else old + self.SMOOTHING * (new - old)
