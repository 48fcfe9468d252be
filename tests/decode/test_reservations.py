"""Who may speak for a promise, and when it is kept. Method: one reservation by hand."""

import pytest

from common.core.errors import Fenced, NotFound
from common.core.ids import Generation, PageId, PageRef, ReservationId, TokenId
from common.core.step import Draw
from common.kv.layout import LayerSpan
from common.transfer.claims import LayerClaims
from common.transfer.messages import PageRun
from common.worker.permit import Permit
from services.decode.reservations import Opening, Reservation, Reservations
from tests.engine.rig import work

NAME = ReservationId("res")
NUM_LAYERS = 3
OPENING = Opening(first_tokens={0: Draw(token=TokenId(5))})


def reservation(*, attempt: int = 1, num_pages: int = 5, held: int = 2) -> Reservation:
    pages = tuple(PageRef(PageId(page), Generation(1)) for page in range(num_pages))
    return Reservation(
        id=NAME,
        work=work("res", [1, 2, 3], attempt=attempt),
        pages=pages,
        held=held,
        permit=Permit(reservation=NAME, attempt=attempt, first_page=held, pages=pages[held:]),
        made_at=0.0,
        touched_at=0.0,
        landed=LayerClaims(NUM_LAYERS),
    )


def test_only_frames_of_the_current_attempt_find_the_promise() -> None:
    table, promised = Reservations(), reservation(attempt=2)
    table.add(promised)
    assert table.find(NAME, 2) is promised
    for other in (1, 3):
        with pytest.raises(Fenced):
            table.find(NAME, other)
    table.remove(NAME)
    with pytest.raises(NotFound):
        table.find(NAME, 2)


def test_a_promise_is_kept_when_every_layer_of_every_page_is_there_and_the_first_tokens_are() -> None:
    """Pages that were held already are not waited for; all layers but one of one page are too few."""
    promised = reservation()
    promised.opening = OPENING
    promised.landed.add(PageRun(first_page=2, num_pages=2))
    promised.landed.add(PageRun(first_page=4, num_pages=1, layers=LayerSpan(first=0, num=NUM_LAYERS - 1)))
    assert not promised.is_complete(NUM_LAYERS)
    promised.landed.add(PageRun(first_page=4, num_pages=1, layers=LayerSpan(first=NUM_LAYERS - 1, num=1)))
    assert promised.is_complete(NUM_LAYERS)
    promised.opening = None
    assert not promised.is_complete(NUM_LAYERS)
