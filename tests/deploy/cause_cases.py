"""Causes inside: for each alert of deploy/causes.py what brings it about, and what is near it and does not."""

from functools import partial

from tests.deploy.alert_case import DECODE, PLANNER, PREFILL, ROUTER, Case, Page, scraped

SENT = 'channel="gloo",direction="sent"'


def pair(page: Page, firing: dict[str, str], well: dict[str, str]) -> tuple[Case, ...]:
    return (
        Case(name=f"{page.alert} fires", series=scraped(60) | firing, fires=(page,)),
        Case(name=f"{page.alert} rests", series=scraped(60) | well, rests=(page.alert,)),
    )


def members(role: str, ready: int) -> dict[str, str]:
    return {f'baton_members{{{ROUTER},target="{role}",state="ready"}}': f"{ready}x60"}


def wanted(role: str, values: str) -> dict[str, str]:
    return {f'baton_planner_desired_replicas{{{PLANNER},target="{role}"}}': values}


def waiting(seconds: str, *, target: str = "decode", priority: str = "standard") -> dict[str, str]:
    return {f'baton_queue_oldest_seconds{{{ROUTER},target="{target}",priority="{priority}"}}': seconds}


def _no_workers(role: str) -> tuple[Case, ...]:
    """A fleet at none: by nobody's decision, by decision, called back a moment ago, and called back in vain."""
    page = Page(alert=f"BatonNo{role.capitalize()}", summary=f"no {role} worker is ready")
    none, asked = scraped(60) | members(role, 0), partial(wanted, role)
    return (
        *pair(page, members(role, 0), members(role, 1)),
        Case(name=f"{role}: gone a minute ago", series=scraped(60) | _gone(role), rests=(page.alert,)),
        Case(name=f"{role}: none is what is wanted", series=none | asked("1x30 0x30"), rests=(page.alert,)),
        Case(name=f"{role}: called back just now", series=none | asked("0x55 1x5"), rests=(page.alert,)),
        Case(name=f"{role}: called back in vain", series=none | asked("0x30 1x30"), fires=(page,)),
    )


def _gone(role: str) -> dict[str, str]:
    return {f'baton_members{{{ROUTER},target="{role}",state="ready"}}': "1x58 0x2"}


def _transfers(failed: str) -> dict[str, str]:
    return {
        f'baton_transfers_ended_total{{{PREFILL},{SENT},outcome="failed"}}': failed,
        f'baton_transfers_ended_total{{{PREFILL},{SENT},outcome="done"}}': "0+90x60",
    }


def _late(requests: str) -> dict[str, str]:
    return {
        f'baton_requests_failed_total{{{ROUTER},reason="DEADLINE_EXCEEDED"}}': requests,
        f"baton_requests_received_total{{{ROUTER}}}": "0+100x60",
    }


def _pages(preempted: str, usage: str = "0.95x60") -> dict[str, str]:
    return {f"baton_kv_usage_ratio{{{DECODE}}}": usage, f"baton_preemptions_total{{{DECODE}}}": preempted}


NOT_SCRAPED = Page(alert="BatonMetricsAbsent", summary="no router is scraped", labels={"role": "router"})
STALE = Page(alert="BatonDirectoryStale", summary="router processes do not reach Redis", labels={"role": "router"})
CAUSE_CASES = (
    *_no_workers("decode"),
    *_no_workers("prefill"),
    Case(name="only workers are scraped", series={f"baton_build_info{{{DECODE}}}": "1x60"}, fires=(NOT_SCRAPED,)),
    Case(name="routers are scraped", series=scraped(60), rests=(NOT_SCRAPED.alert,)),
    *pair(
        Page(alert="BatonQueueGrows", summary="somebody has waited 1m 0s for decode", labels={"target": "decode"}),
        waiting("60x60"),
        waiting("60x60", priority="batch"),
    ),
    Case(name="a queue that drains", series=scraped(60) | waiting("60x57 0x3"), rests=("BatonQueueGrows",)),
    *pair(
        Page(
            alert="BatonPagesShort",
            summary="decode is short of pages: 95% in use, and sequences are preempted",
        ),
        _pages("0+5x60"),
        _pages("0x60"),
    ),
    Case(name="preempted with room", series=scraped(60) | _pages("0+5x60", "0.5x60"), rests=("BatonPagesShort",)),
    *pair(
        Page(alert="BatonTransfersFail", summary="10% of page transfers fail"),
        _transfers("0+10x60"),
        _transfers("0x60"),
    ),
    *pair(
        Page(alert="BatonDigestFailures", summary="60 pages changed on their way within an hour"),
        {f"baton_digest_failures_total{{{DECODE}}}": "0+1x60"},
        {f"baton_digest_failures_total{{{DECODE}}}": "1x60"},
    ),
    *pair(
        STALE,
        {f"baton_directory_stale{{{ROUTER}}}": "1x60", f"baton_directory_stale{{{DECODE}}}": "0x60"},
        {f"baton_directory_stale{{{ROUTER}}}": "0x57 1x3", f"baton_directory_stale{{{DECODE}}}": "0x60"},
    ),
    *pair(
        Page(alert="BatonDeadlinesPass", summary="10% of requests run out of time"),
        _late("0+10x60"),
        _late("0+1x60"),
    ),
    *pair(
        Page(
            alert="BatonLoopLags",
            summary="the event loop of a router was 800ms late",
            labels={"role": "router"},
        ),
        {f"baton_event_loop_lag_seconds{{{ROUTER}}}": "0.8x60"},
        {f"baton_event_loop_lag_seconds{{{ROUTER}}}": "0.01x60"},
    ),
)
