"""Every metric of Baton, with unit, bounded labels and a sentence: one file per noun, one door.

Durations are differences of two lifetime stations, in seconds. Buckets have an edge at each usual service level
threshold. Nothing is labelled by request, tenant or worker: those numbers are unbounded.
"""

# ruff: noqa: F403 - a door: whatever a file of this room defines is read as `catalogue.NAME`
from common.observe.catalogue import directory, pages, planning, process, queues, requests, steps, transfers
from common.observe.catalogue.directory import *
from common.observe.catalogue.pages import *
from common.observe.catalogue.planning import *
from common.observe.catalogue.process import *
from common.observe.catalogue.queues import *
from common.observe.catalogue.requests import *
from common.observe.catalogue.steps import *
from common.observe.catalogue.transfers import *
from common.observe.catalogue.vocabulary import *
from common.observe.metric import Metric

CATALOGUE: tuple[Metric, ...] = tuple(
    value
    for room in (requests, queues, planning, pages, steps, transfers, directory, process)
    for value in vars(room).values()
    if isinstance(value, Metric)
)
"""All of them, in order."""
