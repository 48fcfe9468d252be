"""Turns looks and transfer snapshots into the metrics of the catalogue."""

from collections import defaultdict
from collections.abc import Mapping

from common.core.worker import LoadReport
from common.engine.look import Look
from common.engine.telling import Stepped
from common.kv.layout import PageLayout
from common.observe import catalogue
from common.observe.metric import Metric, ProcessRole
from common.observe.registry import Metrics
from common.transfer.counters import ChannelTotals, TransferTotals
from common.transfer.endpoint import TransferSnapshot

COUNTERS: Mapping[str, tuple[Metric, Mapping[str, str]]] = {
    "hits": (catalogue.PREFIX_HITS, {}),
    "misses": (catalogue.PREFIX_MISSES, {}),
    "fetched_pages": (catalogue.PREFIX_FETCHED, {}),
    "fetches_whole": (catalogue.PREFIX_FETCHES, {"outcome": "whole"}),
    "fetches_part": (catalogue.PREFIX_FETCHES, {"outcome": "part"}),
    "fetches_void": (catalogue.PREFIX_FETCHES, {"outcome": "void"}),
    "evictions": (catalogue.PREFIX_EVICTIONS, {}),
    "preemptions": (catalogue.PREEMPTIONS, {}),
    "aborted": (catalogue.ABORTS, {}),
    "failed_rows": (catalogue.POISONED, {}),
    "decoded_tokens": (catalogue.GENERATED_TOKENS, {}),
    "first_tokens": (catalogue.GENERATED_TOKENS, {}),
    "computed_tokens": (catalogue.PROMPT_TOKENS, {"source": "computed"}),
    "cached_tokens": (catalogue.PROMPT_TOKENS, {"source": "cached"}),
    "local_prompt_tokens": (catalogue.PROMPT_TOKENS, {"source": "extended"}),
    "received_tokens": (catalogue.PROMPT_TOKENS, {"source": "received"}),
    "kept": (catalogue.KEPT_SEQUENCES, {}),
    "cut": (catalogue.DRAIN_CUTS, {}),
    "landed_bytes": (catalogue.LANDED_BYTES, {}),
    "stale_frames": (catalogue.STALE_REFUSED, {"fence": "attempt"}),
    "promises_filled": (catalogue.RESERVATIONS_ENDED, {"outcome": "filled"}),
    "promises_released": (catalogue.RESERVATIONS_ENDED, {"outcome": "released"}),
    "promises_expired": (catalogue.RESERVATIONS_ENDED, {"outcome": "expired"}),
}
"""Counters of both cores by field name. A core has those that its role knows."""

LINK_CAUSES = {"link_evicted": "lru", "link_failed": "failed", "link_superseded": "epoch"}


class WorkerGauges:
    """Writer: whoever renders the metrics. Totals become increments here, so a scrape never counts twice."""

    def __init__(self, metrics: Metrics, layout: PageLayout) -> None:
        self._metrics = metrics
        self._page_size = layout.page_size
        self._told: defaultdict[object, float] = defaultdict(float)
        self._observe_seconds = metrics.observer(catalogue.STEP_SECONDS)
        self._observe_rows = metrics.observer(catalogue.STEP_ROWS)
        self._observe_tokens = metrics.observer(catalogue.STEP_TOKENS)

    def stepped(self, step: Stepped) -> None:
        self._observe_seconds(step.seconds)
        self._observe_rows(step.num_rows)
        self._observe_tokens(step.num_tokens)

    def show(self, look: Look, transfers: TransferSnapshot, *, num_subscriptions: int) -> None:
        """Bring every gauge and counter up to date."""
        for name, total in look.counters.items():
            if name in COUNTERS:
                metric, labels = COUNTERS[name]
                self._raise_to(metric, total, name, labels)
        self._show_load(look.load)
        self._show_pages(look)
        self._metrics.set(catalogue.SUBSCRIPTIONS, num_subscriptions)
        self._metrics.set(catalogue.LINKS, transfers.links + transfers.inlets)
        for direction, totals in (("sent", transfers.sent), ("received", transfers.received)):
            for channel, carried in totals.channels.items():
                self._show_channel(carried, {"channel": channel, "direction": direction})
            self._show_incidents(totals, direction)
        for channel in transfers.channels:
            sent, received = transfers.links_over[channel], transfers.inlets_over[channel]
            self._metrics.set(catalogue.TRANSFER_LINKS, sent, channel=channel, direction="sent")
            self._metrics.set(catalogue.TRANSFER_LINKS, received, channel=channel, direction="received")
        for (channel, cause), count in transfers.sent.passed_over.items():
            labels = {"channel": channel, "cause": cause.value}
            self._raise_to(catalogue.CHANNELS_PASSED_OVER, count, ("passed over", channel, cause), labels)

    def _show_load(self, load: LoadReport) -> None:
        pages = load.pages
        for state in ("free", "promised", "referenced", "cached"):
            self._metrics.set(catalogue.PAGES, getattr(pages, state), state=state)
        self._metrics.set(catalogue.KV_USAGE, (pages.promised + pages.referenced) / pages.total)
        self._metrics.set(catalogue.WAITING_REQUESTS, load.waiting_requests)
        self._metrics.set(catalogue.WAITING_TOKENS, load.waiting_tokens)
        self._metrics.set(catalogue.RUNNING_SEQUENCES, load.running_sequences)
        if self._metrics.role is ProcessRole.PREFILL:
            self._metrics.set(catalogue.OUTSTANDING_EXPORTS, load.outstanding_exports)
        self._metrics.set(catalogue.REQUESTS_IN_FLIGHT, load.waiting_requests + load.running_sequences)

    def _show_pages(self, look: Look) -> None:
        pages = look.load.pages
        slots = pages.referenced * self._page_size
        self._metrics.set(catalogue.PAGE_FRAGMENTATION, min(look.empty_slots / slots, 1.0) if slots else 0.0)
        if self._metrics.role is ProcessRole.DECODE:
            self._metrics.set(catalogue.RESERVATIONS, look.reservations)

    def _show_channel(self, totals: ChannelTotals, labels: Mapping[str, str]) -> None:
        key = (labels["direction"], labels["channel"])
        self._raise_to(catalogue.TRANSFERS_STARTED, totals.started, (key, "started"), labels)
        for outcome in ("done", "failed", "expired"):
            total = getattr(totals, outcome)
            self._raise_to(catalogue.TRANSFERS_ENDED, total, (key, outcome), {**labels, "outcome": outcome})
        self._metrics.set(catalogue.TRANSFERS_IN_FLIGHT, totals.in_flight, **labels)
        self._raise_to(catalogue.TRANSFER_BYTES, totals.bytes, (key, "bytes"), labels)
        self._show_moves(totals, labels)
        for reason, count in totals.failures.items():
            reasons = {"channel": labels["channel"], "reason": reason.value}
            self._raise_to(catalogue.TRANSFER_FAILURES, count, (key, reason), reasons)

    def _show_incidents(self, totals: TransferTotals, key: str) -> None:
        mismatches = totals.incidents.get("digest_mismatch", 0)
        self._raise_to(catalogue.DIGEST_FAILURES, mismatches, (key, "digest"), {})
        fenced = totals.incidents.get("fenced", 0)
        self._raise_to(catalogue.STALE_REFUSED, fenced, (key, "fenced"), {"fence": "transfer"})
        for incident, cause in LINK_CAUSES.items():
            self._raise_to(catalogue.LINKS_CLOSED, totals.incidents.get(incident, 0), (key, incident), {"cause": cause})

    def _show_moves(self, totals: ChannelTotals, labels: Mapping[str, str]) -> None:
        """Each run's duration once."""
        key = (labels["direction"], labels["channel"], "moves")
        num_new = totals.num_moves - int(self._told[key])
        self._told[key] = totals.num_moves
        for seconds in totals.recent_moves_s[-num_new:] if num_new else ():
            self._metrics.observe(catalogue.TRANSFER_SECONDS, seconds, **labels)

    def _raise_to(self, metric: Metric, total: float, key: object, labels: Mapping[str, str]) -> None:
        grown = total - self._told[key]
        assert grown >= 0, f"{metric.name}: {key} fell from {self._told[key]} to {total}"
        if grown:
            self._metrics.add(metric, grown, **labels)
            self._told[key] = total
