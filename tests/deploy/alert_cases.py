"""For each alert: series under which it fires, and series under which all is well. Written as promtool's unit tests."""

from dataclasses import dataclass
from functools import partial
from typing import Any

HOURS = 60
"""In minutes: samples come once a minute."""

ROUTER = 'namespace="ns",release="demo",pod="r-0",role="router"'
PREFILL = 'namespace="ns",release="demo",pod="p-0",role="prefill"'
DECODE = 'namespace="ns",release="demo",pod="d-0",role="decode"'
PLANNER = 'namespace="ns",release="demo",pod="s-0",role="planner"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`series` maps a selector to promtool's notation. `fires`: the alerts that do, of those in `watches`."""

    name: str
    series: dict[str, str]
    fires: tuple[str, ...] = ()
    rests: tuple[str, ...] = ()
    minutes: int = 2 * HOURS


def _requests(bad_per_minute: float, length: int = 2 * HOURS) -> dict[str, str]:
    return {
        f"baton_requests_finished_total{{{ROUTER}}}": f"0+{1000 - bad_per_minute}x{length}",
        f'baton_requests_failed_total{{{ROUTER},reason="INTERNAL"}}': f"0+{bad_per_minute}x{length}",
        f'baton_requests_failed_total{{{ROUTER},reason="INVALID_REQUEST"}}': f"0+500x{length}",
        f'baton_requests_refused_total{{{ROUTER},reason="QUEUE_FULL"}}': f"0+0x{length}",
    }


def _latency(metric: str, edge: str, slow_per_minute: float, length: int = 2 * HOURS) -> dict[str, str]:
    where = f'{ROUTER},priority="interactive"'
    return {
        f"{metric}_count{{{where}}}": f"0+1000x{length}",
        f'{metric}_bucket{{{where},le="{edge}"}}': f"0+{1000 - slow_per_minute}x{length}",
        f'{metric}_bucket{{{where},le="+Inf"}}': f"0+1000x{length}",
    }


TTFT, ITL = "baton_time_to_first_token_seconds", "baton_inter_token_seconds"
SENT = 'channel="gloo",direction="sent"'


def _pair(name: str, firing: dict[str, str], well: dict[str, str]) -> tuple[Case, ...]:
    return (
        Case(name=f"{name} fires", series=firing, fires=(name,), minutes=60),
        Case(name=f"{name} rests", series=well, rests=(name,), minutes=60),
    )


def _members(role: str, ready: int) -> dict[str, str]:
    return {f'baton_members{{{ROUTER},target="{role}",state="ready"}}': f"{ready}x60"}


def _wanted(role: str, values: str) -> dict[str, str]:
    return {f'baton_planner_desired_replicas{{{PLANNER},target="{role}"}}': values}


def _idle(role: str, alert: str) -> tuple[Case, ...]:
    """A fleet at none: by decision, called back a moment ago, and called back in vain."""
    none, wanted = _members(role, 0), partial(_wanted, role)
    return (
        Case(name=f"{role}: none is what is wanted", series=none | wanted("1x30 0x30"), rests=(alert,), minutes=60),
        Case(name=f"{role}: called back just now", series=none | wanted("0x55 1x5"), rests=(alert,), minutes=60),
        Case(name=f"{role}: called back in vain", series=none | wanted("0x30 1x30"), fires=(alert,), minutes=60),
    )


FAST, SLOW = "BatonAvailabilityBurnFast", "BatonAvailabilityBurnSlow"
CASES = (
    Case(name="a bad hour", series=_requests(50), fires=(FAST,)),
    Case(
        name="a slow leak",
        series=_requests(5),
        fires=("BatonAvailabilityBurnSlow",),
        rests=("BatonAvailabilityBurnFast",),
    ),
    Case(
        name="clients' own mistakes",
        series=_requests(0),
        rests=("BatonAvailabilityBurnFast", "BatonAvailabilityBurnSlow"),
    ),
    Case(name="late first tokens", series=_latency(TTFT, "2.0", 200), fires=("BatonFirstTokenBurnFast",)),
    Case(
        name="some late first tokens",
        series=_latency(TTFT, "2.0", 40),
        fires=("BatonFirstTokenBurnSlow",),
        rests=("BatonFirstTokenBurnFast",),
    ),
    Case(name="tokens stutter", series=_latency(ITL, "0.1", 200), fires=("BatonTokenGapBurnFast",)),
    Case(
        name="some tokens stutter",
        series=_latency(ITL, "0.1", 40),
        fires=("BatonTokenGapBurnSlow",),
        rests=("BatonTokenGapBurnFast",),
    ),
    Case(
        name="all in time",
        series=_latency(TTFT, "2.0", 1) | _latency(ITL, "0.1", 1),
        rests=("BatonFirstTokenBurnFast", "BatonFirstTokenBurnSlow", "BatonTokenGapBurnFast", "BatonTokenGapBurnSlow"),
    ),
    *_pair("BatonNoDecode", _members("decode", 0), _members("decode", 1)),
    *_pair("BatonNoPrefill", _members("prefill", 0), _members("prefill", 1)),
    *_idle("decode", "BatonNoDecode"),
    *_idle("prefill", "BatonNoPrefill"),
    *_pair("BatonMetricsAbsent", {f"baton_build_info{{{DECODE}}}": "1x60"}, {f"baton_build_info{{{ROUTER}}}": "1x60"}),
    *_pair(
        "BatonQueueGrows",
        {f'baton_queue_oldest_seconds{{{ROUTER},target="decode",priority="standard"}}': "60x60"},
        {f'baton_queue_oldest_seconds{{{ROUTER},target="decode",priority="batch"}}': "60x60"},
    ),
    *_pair(
        "BatonPagesShort",
        {f"baton_kv_usage_ratio{{{DECODE}}}": "0.95x60", f"baton_preemptions_total{{{DECODE}}}": "0+5x60"},
        {f"baton_kv_usage_ratio{{{DECODE}}}": "0.95x60", f"baton_preemptions_total{{{DECODE}}}": "0x60"},
    ),
    *_pair(
        "BatonTransfersFail",
        {
            f'baton_transfers_ended_total{{{PREFILL},{SENT},outcome="failed"}}': "0+10x60",
            f'baton_transfers_ended_total{{{PREFILL},{SENT},outcome="done"}}': "0+90x60",
        },
        {
            f'baton_transfers_ended_total{{{PREFILL},{SENT},outcome="failed"}}': "0x60",
            f'baton_transfers_ended_total{{{PREFILL},{SENT},outcome="done"}}': "0+90x60",
        },
    ),
    *_pair(
        "BatonDigestFailures",
        {f"baton_digest_failures_total{{{DECODE}}}": "0+1x60"},
        {f"baton_digest_failures_total{{{DECODE}}}": "1x60"},
    ),
    *_pair(
        "BatonStaleWriteApplied",
        {f"baton_stale_writes_applied_total{{{DECODE}}}": "0x30 1x30"},
        {f"baton_stale_writes_applied_total{{{DECODE}}}": "0x60"},
    ),
    *_pair(
        "BatonDirectoryStale",
        {f"baton_directory_stale{{{ROUTER}}}": "1x60"},
        {f"baton_directory_stale{{{ROUTER}}}": "0x30 1x2 0x30"},
    ),
    *_pair(
        "BatonDeadlinesPass",
        {
            f'baton_requests_failed_total{{{ROUTER},reason="DEADLINE_EXCEEDED"}}': "0+10x60",
            f"baton_requests_received_total{{{ROUTER}}}": "0+100x60",
        },
        {
            f'baton_requests_failed_total{{{ROUTER},reason="DEADLINE_EXCEEDED"}}': "0+1x60",
            f"baton_requests_received_total{{{ROUTER}}}": "0+100x60",
        },
    ),
    *_pair(
        "BatonLoopLags",
        {f"baton_event_loop_lag_seconds{{{ROUTER}}}": "0.8x60"},
        {f"baton_event_loop_lag_seconds{{{ROUTER}}}": "0.01x60"},
    ),
)


def promtool_tests(rule_file: str) -> dict[str, Any]:
    """The document that `promtool test rules` reads."""
    return {"rule_files": [rule_file], "evaluation_interval": "1m", "tests": [_test(case) for case in CASES]}


def _test(case: Case) -> dict[str, Any]:
    return {
        "name": case.name,
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                "eval_time": f"{case.minutes}m",
                "exp_samples": [{"labels": "{}", "value": 1}] if alert in case.fires else [],
            }
            for alert in (*case.fires, *case.rests)
        ],
    }
