"""What serving stands on: for each alert of deploy/foundations.py what brings it about, and what is near it."""

from tests.deploy.alert_case import DECODE, IN, PLANNER, ROUTER, Case, Page, scraped
from tests.deploy.cause_cases import STALE, pair, waiting, wanted
from tests.deploy.chart import EVERYTHING, objects, render

(JOB,) = objects("Job", render(*EVERYTHING))
HPA = next(name for name in objects("HorizontalPodAutoscaler", render(*EVERYTHING)) if name.endswith("decode"))
"""As the chart names them: kube-state-metrics knows them by that alone."""

OTHERS = "other-baton-decode"


def _planner_limit(desired: int, oldest_s: int) -> dict[str, str]:
    limit = {f'baton_planner_max_replicas{{{PLANNER},target="decode"}}': "4x60"}
    return wanted("decode", f"{desired}x60") | limit | waiting(f"{oldest_s}x60")


def _hpa_limit(desired: int, name: str = HPA) -> dict[str, str]:
    hpa = f'namespace="{IN}",horizontalpodautoscaler="{name}"'
    return waiting("20x60") | {
        f"kube_horizontalpodautoscaler_status_desired_replicas{{{hpa}}}": f"{desired}x60",
        f"kube_horizontalpodautoscaler_spec_max_replicas{{{hpa}}}": "4x60",
    }


def _at_maximum(name: str) -> Page:
    return Page(
        alert="BatonHpaAtMaximum",
        summary=f"{name} is at its maximum, and requests wait",
        labels={"horizontalpodautoscaler": name},
    )


def _planner() -> tuple[Case, ...]:
    blind = {f"baton_planner_blind{{{PLANNER}}}": "1x60"}
    other = {f"baton_planner_blind{{{PLANNER.replace('s-0', 's-1')}}}": "0x60"}
    limit = Page(
        alert="BatonPlannerAtMaximum",
        summary="decode is at its maximum of 4 workers, and requests wait",
        labels={"target": "decode"},
    )
    keda = f"keda-hpa-{HPA}"
    told_already = _hpa_limit(4) | wanted("decode", "4x60")
    return (
        *pair(Page(alert="BatonPlannerBlind", summary="the planner sees no load"), blind, blind | other),
        *pair(limit, _planner_limit(4, 20), _planner_limit(4, 0)),
        Case(name="below the maximum", series=scraped(60) | _planner_limit(3, 20), rests=(limit.alert,)),
        *pair(_at_maximum(HPA), _hpa_limit(4), _hpa_limit(3)),
        Case(name="KEDA's HPA", series=scraped(60) | _hpa_limit(4, keda), fires=(_at_maximum(keda),)),
        Case(name="another's HPA", series=scraped(60) | _hpa_limit(4, OTHERS), rests=("BatonHpaAtMaximum",)),
        Case(name="the planner tells it", series=scraped(60) | told_already, rests=("BatonHpaAtMaximum",)),
    )


def _memory(used: int) -> dict[str, str]:
    return {f"baton_redis_memory_bytes{{{ROUTER}}}": f"{used}x60", f"baton_redis_limit_bytes{{{ROUTER}}}": "100x60"}


def _redis() -> tuple[Case, ...]:
    """With Redis gone for everybody each role says so too."""
    down = Page(alert="BatonRedisDown", summary="nobody reaches Redis")
    decode = Page(alert=STALE.alert, summary=STALE.summary.replace("router", "decode"), labels={"role": "decode"})
    away = {f"baton_directory_stale{{{ROUTER}}}": "1x60", f"baton_directory_stale{{{DECODE}}}": "1x60"}
    partly = away | {f"baton_directory_stale{{{DECODE}}}": "0x60"}
    return (
        Case(name="Redis is gone", series=scraped(60) | away, fires=(down, STALE, decode)),
        Case(name="routers alone lost Redis", series=scraped(60) | partly, fires=(STALE,), rests=(down.alert,)),
        *pair(
            Page(alert="BatonRedisMemoryHigh", summary="Redis uses 85% of the memory it may use"),
            _memory(85),
            _memory(60),
        ),
    )


def _files(used: int) -> dict[str, str]:
    return {f"baton_process_files{{{ROUTER}}}": f"{used}x60", f"baton_process_max_files{{{ROUTER}}}": "1024x60"}


def _lost(values: str) -> dict[str, str]:
    return {f"baton_log_lines_lost_total{{{DECODE}}}": values}


def _system() -> tuple[Case, ...]:
    return (
        *pair(
            Page(
                alert="BatonFilesShort",
                summary="a router has 87.5% of its files and connections open",
                labels={"role": "router"},
            ),
            _files(896),
            _files(640),
        ),
        *pair(
            Page(
                alert="BatonLogsLost",
                summary="decode processes cannot write their logs",
                labels={"role": "decode"},
            ),
            _lost("0x55 1+1x5"),
            _lost("7x60"),
        ),
    )


CERTIFICATES = ("BatonCertificateEndsSoon", "BatonCertificateEndsThisWeek", "BatonCertificateEndsToday")


def _certificates() -> tuple[Case, ...]:
    """Each border fires what is below it, and nothing above."""
    return tuple(
        Case(
            name=f"a certificate of {days} days",
            series=scraped(70) | {f'baton_certificate_left_seconds{{{DECODE},kind="own"}}': f"{days * 86400:.0f}x70"},
            fires=tuple(
                Page(
                    alert=alert,
                    summary=f"the own certificate of a decode ends in {left}",
                    labels={"role": "decode", "kind": "own"},
                )
                for alert in CERTIFICATES[:count]
            ),
            rests=CERTIFICATES[count:],
            minutes=70,
        )
        for days, left, count in ((90, "", 0), (20, "20d 0h 0m 0s", 1), (5, "5d 0h 0m 0s", 2), (0.5, "12h 0m 0s", 3))
    )


def _failed(job: str) -> dict[str, str]:
    return {f'kube_job_failed{{namespace="{IN}",job_name="{job}",condition="true"}}': "1x60"}


FOUNDATION_CASES = (
    *_planner(),
    *_redis(),
    *_system(),
    *_certificates(),
    *pair(
        Page(
            alert="BatonDownloadFailed",
            summary=f"{JOB} gave up: the model is not there",
            labels={"job_name": JOB},
        ),
        _failed(JOB),
        _failed(JOB.replace("demo-", "other-")),
    ),
)
