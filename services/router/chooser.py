"""Asks the policy, with the fleet as it is now, and writes down what was asked and answered."""

from common.core.ids import RequestId, WorkerRef
from common.core.request import Work
from services.router.classify import Facts
from services.router.decisions.entry import Entry, Question
from services.router.decisions.log import DecisionLog
from services.router.fleet import Fleet
from services.router.policy import Decision, PolicySettings, choose, choose_prefill, choose_writer
from services.router.view import FleetView


class Chooser:
    """Keeps nothing: the fleet is the state, the policy is pure."""

    def __init__(self, *, fleet: Fleet, settings: PolicySettings, log: DecisionLog | None = None) -> None:
        self._fleet = fleet
        self._settings = settings
        self._log = log

    def route(self, work: Work, facts: Facts) -> Decision | None:
        """Where a new placement goes. None: nobody can take it now."""
        view = self._fleet.view()
        decision = choose(facts, view, self._settings)
        self._note(Question.ROUTE, work, facts, view, decision=decision)
        return decision

    def reader(self, work: Work, facts: Facts, *, is_asked_again: bool = False) -> WorkerRef | None:
        """Who else may read the prompt for a promise that stands. None: nobody that has not failed it; nothing is noted
        then of what `is_asked_again`."""
        view = self._fleet.view()
        reader = choose_prefill(facts, view, self._settings)
        if reader is not None or not is_asked_again:
            self._note(Question.READER, work, facts, view, reader=reader)
        return reader

    def writer(self, work: Work, facts: Facts) -> WorkerRef | None:
        """Who else may go on with an answer whose worker drains. None: nobody has room; nothing is noted then, because
        it is asked again and again."""
        view = self._fleet.view()
        writer = choose_writer(facts, view, self._settings)
        if writer is not None:
            self._note(Question.WRITER, work, facts, view, writer=writer)
        return writer

    def _note(
        self,
        question: Question,
        work: Work,
        facts: Facts,
        view: FleetView,
        *,
        decision: Decision | None = None,
        reader: WorkerRef | None = None,
        writer: WorkerRef | None = None,
    ) -> None:
        if self._log is None or not self._log.is_open:
            return
        self._log.note(
            Entry(
                request=_asked_for(work),
                attempt=work.attempt,
                at=self._log.wall(),
                question=question,
                facts=facts,
                view=view,
                decision=decision,
                reader=reader,
                writer=writer,
            )
        )


def _asked_for(work: Work) -> RequestId:
    """The client's request: works are named after it."""
    name, _, _ = work.request.rpartition("#")
    return RequestId(name) if name else work.request
