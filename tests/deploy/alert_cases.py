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


def _planner_limit(wanted: int, oldest_s: int) -> dict[str, str]:
    return _wanted("decode", f"{wanted}x60") | {
        f'baton_planner_max_replicas{{{PLANNER},target="decode"}}': "4x60",
        f'baton_queue_oldest_seconds{{{ROUTER},target="decode",priority="standard"}}': f"{oldest_s}x60",
    }


def _hpa_limit(desired: int) -> dict[str, str]:
    hpa = 'namespace="ns",horizontalpodautoscaler="demo-decode"'
    return {
        f"kube_horizontalpodautoscaler_status_desired_replicas{{{hpa}}}": f"{desired}x60",
        f"kube_horizontalpodautoscaler_spec_max_replicas{{{hpa}}}": "4x60",
        f'baton_queue_oldest_seconds{{{ROUTER},target="decode",priority="standard"}}': "20x60",
    }


def _redis_memory(used: int) -> dict[str, str]:
    return {f"baton_redis_memory_bytes{{{ROUTER}}}": f"{used}x60", f"baton_redis_limit_bytes{{{ROUTER}}}": "100x60"}


def _certificate(days: float) -> dict[str, str]:
    return {f'baton_certificate_left_seconds{{{DECODE},kind="own"}}': f"{days * 86400:.0f}x70"}


def _nightly(failed: int) -> dict[str, str]:
    """A dozen requests in a night hour, one every five minutes, of which so many fail in the last half hour."""
    bad = "0x90 " + " ".join(f"{min(count, failed)}x4" for count in range(1, 7))
    return {
        f"baton_requests_finished_total{{{ROUTER}}}": "0+0.2x120",
        f'baton_requests_failed_total{{{ROUTER},reason="INTERNAL"}}': bad,
        f'baton_requests_refused_total{{{ROUTER},reason="QUEUE_FULL"}}': "0x120",
    }


CERTIFICATES = ("BatonCertificateEndsSoon", "BatonCertificateEndsThisWeek", "BatonCertificateEndsToday")


def _certificates() -> tuple[Case, ...]:
    """Each border fires what is below it, and nothing above."""
    return tuple(
        Case(
            name=f"a certificate of {days} days",
            series=_certificate(days),
            fires=CERTIFICATES[:count],
            rests=CERTIFICATES[count:],
            minutes=70,
        )
        for days, count in ((90, 0), (20, 1), (5, 2), (0.5, 3))
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
    Case(name="one of a nightly dozen", series=_nightly(1), rests=(FAST, SLOW)),
    Case(name="half of a nightly dozen", series=_nightly(6), fires=(FAST,)),
    *_pair(
        "BatonPlannerBlind",
        {f"baton_planner_blind{{{PLANNER}}}": "1x60"},
        {
            f"baton_planner_blind{{{PLANNER}}}": "1x60",
            f"baton_planner_blind{{{PLANNER.replace('s-0', 's-1')}}}": "0x60",
        },
    ),
    *_pair("BatonPlannerAtMaximum", _planner_limit(4, 20), _planner_limit(4, 0)),
    Case(name="below the maximum", series=_planner_limit(3, 20), rests=("BatonPlannerAtMaximum",), minutes=60),
    *_pair("BatonHpaAtMaximum", _hpa_limit(4), _hpa_limit(3)),
    Case(
        name="the planner tells it already",
        series=_hpa_limit(4) | _wanted("decode", "4x60"),
        rests=("BatonHpaAtMaximum",),
        minutes=60,
    ),
    *_pair(
        "BatonRedisDown",
        {f"baton_directory_stale{{{ROUTER}}}": "1x60", f"baton_directory_stale{{{DECODE}}}": "1x60"},
        {f"baton_directory_stale{{{ROUTER}}}": "1x60", f"baton_directory_stale{{{DECODE}}}": "0x60"},
    ),
    *_pair("BatonRedisMemoryHigh", _redis_memory(85), _redis_memory(60)),
    *_certificates(),
    *_pair(
        "BatonDownloadFailed",
        {'kube_job_failed{namespace="ns",job_name="demo-model-0a1b2c3d-4e5f60",condition="true"}': "1x60"},
        {'kube_job_failed{namespace="ns",job_name="other-model-0a1b2c3d-4e5f60",condition="true"}': "1x60"},
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
