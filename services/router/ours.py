"""Which workers are this router's to use: those that compute with its own model.

Another's would write tokens that mean something else here. While one release of a model replaces another, each router
serves with the workers that have its own, and answers never change from one model to the other.
"""

from common.core.clock import Clock
from common.core.worker import Member
from common.observe.logging import get_log
from common.observe.throttle import ThrottledLog

_LOG = get_log("router")


class Ours:
    """`model_digest` is empty where it is not known; then everybody counts, as does a worker that tells none."""

    def __init__(self, model_digest: bytes, clock: Clock) -> None:
        self._model_digest = model_digest
        self._trouble = ThrottledLog(_LOG, clock)

    def has(self, member: Member) -> bool:
        if not self._model_digest or member.model_digest in (b"", self._model_digest):
            return True
        self._trouble.warning("worker_of_another_model", worker=member.worker.worker, epoch=member.worker.epoch)
        return False
