"""Goal: the demo shows a relay, however fast its workers seem to a router that has just met them."""

import pytest

from common.config.loader import load
from services.local.demo import relayed
from services.local.topology import Overrides


def routes_of(*settings: str) -> str:
    overrides = relayed(load(settings=settings), Overrides(settings=settings))
    return load(settings=overrides.settings).router.routes


def test_pages_travel_whatever_the_costs_say() -> None:
    assert routes_of() == "remote"


@pytest.mark.parametrize("settings", [("router.routes=local",), ("local.prefill=0",)])
def test_who_wants_it_otherwise_has_it_so(settings: tuple[str, ...]) -> None:
    assert routes_of(*settings) == load(settings=settings).router.routes
