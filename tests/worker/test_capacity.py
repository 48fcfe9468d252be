"""How many pages memory holds: of the host's, or of what a GPU had free when it was measured."""

import pytest

from common.config.sections.engine import EngineSection
from common.core.errors import StartupError
from common.kv.layout import PageLayout
from common.worker.capacity import MIN_PAGES, count_pages

LAYOUT = PageLayout(num_layers=2, num_kv_heads=2, head_dim=16, page_size=16, dtype="bfloat16")


def test_pages_take_the_configured_share_of_the_measured_bytes() -> None:
    engine = EngineSection(memory_fraction=0.5)
    assert count_pages(engine, LAYOUT, free_bytes=200 * LAYOUT.page_bytes + 1) == 100


def test_a_configured_number_stands_whatever_was_measured() -> None:
    assert count_pages(EngineSection(num_pages=3), LAYOUT, free_bytes=0) == 3


def test_too_little_free_memory_ends_the_start_with_both_knobs() -> None:
    engine = EngineSection(memory_fraction=0.5)
    enough = 2 * MIN_PAGES * LAYOUT.page_bytes
    assert count_pages(engine, LAYOUT, free_bytes=enough) == MIN_PAGES
    with pytest.raises(StartupError, match=r"memory_fraction or set engine\.num_pages"):
        count_pages(engine, LAYOUT, free_bytes=enough - 1)


def test_workers_whose_shares_add_up_to_one_fit_whatever_their_order() -> None:
    """Each takes its share of what those before it left."""
    free_bytes = 1000 * LAYOUT.page_bytes
    for fractions in [(0.3, 0.3, 0.4), (0.4, 0.3, 0.3)]:
        left = free_bytes
        for fraction in fractions:
            left -= count_pages(EngineSection(memory_fraction=fraction), LAYOUT, free_bytes=left) * LAYOUT.page_bytes
            assert left >= 0
