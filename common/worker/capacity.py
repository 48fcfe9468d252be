"""How many pages a worker's memory holds."""

from collections.abc import Callable

from common.config.sections.engine import EngineSection
from common.core.errors import StartupError
from common.kv.layout import PageLayout
from common.worker.memory import available_bytes

MIN_PAGES = 8
"""Chosen: fewer cannot serve a single short conversation."""

Report = Callable[[str], None]
"""Takes a line for a person who waits for the model to load."""


def count_pages(engine: EngineSection, layout: PageLayout, *, free_bytes: int | None = None) -> int:
    """Pages as configured, or as many as the given share of free memory holds: of a GPU's `free_bytes`, or, where there
    is None, of the host's or the container's. Raises StartupError."""
    if engine.num_pages is not None:
        return engine.num_pages
    if free_bytes is None:
        free_bytes = available_bytes()
    pages = int(free_bytes * engine.memory_fraction) // layout.page_bytes
    if pages < MIN_PAGES:
        raise StartupError(
            message=f"{engine.memory_fraction:g} of {free_bytes >> 20} MiB free memory holds {pages} pages of "
            f"{layout.page_bytes} bytes: raise engine.memory_fraction or set engine.num_pages"
        )
    return pages
