"""Goal: the HPA compared with is Kubernetes', bursts are counted as defined, and a scaled play loses nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from services.planner.settings import PlannerSettings
from services.simulator.bursts import Burst, find_bursts, turns_per_burst
from services.simulator.diurnal import diurnal
from services.simulator.policies import PolicyName
from services.simulator.scalers import ChartQueue, Pair
from services.simulator.scaling import ScalingStudy, run_scaling
from services.simulator.scaling_hpa import Hpa, HpaSettings, Shown
from services.simulator.scaling_play import Replicas
from services.simulator.scaling_pulse import Count
from services.simulator.trace import Trace, TraceRequest

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "baton"


def averaged(value: float | None, target: float) -> tuple[Shown]:
    return (Shown(value=value, target=target),)


def test_an_hpa_follows_the_average_and_ignores_what_is_within_its_tolerance():
    hpa = Hpa(HpaSettings(most=20))
    assert hpa.sync(averaged(22.0, 4.0), 3, 0.0) == 6
    assert hpa.sync(averaged(25.9, 4.0), 6, 15.0) == 6
    assert hpa.sync(averaged(None, 4.0), 6, 30.0) == 6


def test_an_hpa_takes_the_most_that_a_metric_asks_for_and_a_missing_one_forbids_to_go_down():
    settings = HpaSettings(most=20, down_window_s=0.0)
    low, high, missing = (Shown(value=value, target=1.0) for value in (2.0, 5.0, None))
    assert Hpa(settings).sync((low, high), 4, 0.0) == 5
    assert Hpa(settings).sync((missing, high), 4, 0.0) == 5
    assert Hpa(settings).sync((missing, low), 4, 0.0) == 4
    assert Hpa(settings).sync((low,), 4, 0.0) == 3


def test_a_plain_value_asks_for_its_ratio_times_those_that_are_ready():
    """Kubernetes' Value target: those that start do not multiply."""
    waited = (Shown(value=3.0, target=1.0, is_average=False),)
    assert Hpa(HpaSettings(most=20)).sync(waited, 4, 0.0, ready=2) == 6
    assert Hpa(HpaSettings(most=20, up_pods=20)).sync(waited, 4, 0.0, ready=4) == 12


def test_an_hpa_goes_up_by_its_policy_and_down_after_its_window():
    hpa = Hpa(HpaSettings(most=50, up_period_s=60.0))
    assert hpa.sync(averaged(40.0, 1.0), 1, 0.0) == 3
    assert hpa.sync(averaged(40.0, 1.0), 3, 15.0) == 3
    assert hpa.sync(averaged(40.0, 1.0), 3, 61.0) == 6
    quiet = [hpa.sync(averaged(0.0, 1.0), 6, 61.0 + 15.0 * step) for step in range(1, 24)]
    assert quiet[:19] == [6] * 19
    assert quiet[19] == 5


def test_a_swallowed_step_is_swallowed_from_eleven_replicas_on():
    assert Hpa(HpaSettings(most=50)).sync(averaged(12.0, 1.0), 11, 0.0) == 11
    assert Hpa(HpaSettings(most=50)).sync(averaged(9.0, 1.0), 8, 0.0) == 9


def test_the_hpas_compared_with_are_those_that_the_chart_installs():
    """Targets, the window and the policies: read from the chart's values."""
    scaling = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["autoscaling"]
    prefill, decode, up, down = (scaling[name] for name in ("prefill", "decode", "scaleUp", "scaleDown"))
    assert ChartQueue() == ChartQueue(
        queued_tokens=float(prefill["queuedTokens"]),
        kv_usage=float(decode["kvUsage"]),
        running_sequences=float(decode["runningSequences"]),
        admission_s=float(decode["admissionSeconds"]),
    )
    pair = Pair.of(ChartQueue(), Replicas(prefill=5, decode=3))
    behaviour = HpaSettings(
        most=5,
        up_percent=up["percent"],
        up_pods=up["pods"],
        up_period_s=float(up["periodSeconds"]),
        down_window_s=float(down["windowSeconds"]),
        down_pods=down["pods"],
        down_period_s=float(down["prefillPeriodSeconds"]),
    )
    assert up["windowSeconds"] == 0
    assert pair.prefill.settings == behaviour
    assert pair.decode.settings == replace(behaviour, most=3, down_period_s=float(down["decodePeriodSeconds"]))


def test_a_burst_begins_above_twice_the_mean_and_ends_below_it():
    steady = [index * 1.0 for index in range(1200)]
    burst = [600.0 + index * 0.1 for index in range(300)]
    assert find_bursts(sorted([*steady, *burst])) == (Burst(begin=600.0, end=630.0),)
    assert find_bursts(steady) == ()


def test_turns_are_counted_from_one_burst_to_the_next():
    bursts = (Burst(begin=10.0, end=20.0), Burst(begin=50.0, end=60.0))
    series = [(float(at), wanted) for at, wanted in ((0, 1), (12, 3), (15, 5), (30, 4), (40, 6), (55, 7), (70, 7))]
    assert turns_per_burst(bursts, series) == (3, 0)


@pytest.mark.parametrize("period_s", [0.5, 2.0, 5.0])
def test_a_pace_does_not_depend_on_how_often_it_is_looked_at(period_s):
    """A thousand tokens a second for a minute: the rates seen add up to what was read."""
    count, looks = Count(), int(60.0 / period_s)
    seen = [count.up_to(round(1000 * period_s * look), look * period_s) for look in range(1, looks + 1)]
    seen += [count.up_to(60_000, 60.0 + look * period_s) for look in range(1, looks + 1)]
    assert sum(seen) * period_s == pytest.approx(60_000, rel=0.05)


def test_a_day_swings_by_ten_and_keeps_its_requests():
    trace = Trace(
        name="t",
        page_size=16,
        requests=tuple(TraceRequest(arrived_s=0.0, prompt_tokens=8, output_tokens=2, pages=()) for _ in range(8000)),
    )
    day = diurnal(trace, seed=3, span_s=3600.0)
    arrivals = [each.arrived_s for each in day.requests]
    night, noon = sum(at < 360 for at in arrivals), sum(1620 <= at < 1980 for at in arrivals)
    assert len(arrivals) == 8000
    assert 5 < noon / night < 12
    assert diurnal(trace, seed=3, span_s=3600.0) == day


@pytest.mark.parametrize("name", ["static", "HPAs, 1 waiting", "HPAs, chart", "planner, 10%", "planner and HPAs"])
def test_a_scaled_play_finishes_every_request_and_pays_for_every_machine(name):
    requests = tuple(
        TraceRequest(arrived_s=index * 0.3, prompt_tokens=3000, output_tokens=20, pages=()) for index in range(250)
    )
    study = ScalingStudy(
        trace=Trace(name="t", page_size=512, requests=requests),
        most=Replicas(prefill=3, decode=2),
        start_s=10.0,
        depths=(1.0,),
        chart_factors=(1.0,),
        followed_shares=(0.1,),
        policy=PolicyName.ALWAYS_REMOTE,
        planner=PlannerSettings(window_s=60.0, hold_s=20.0),
    )
    summary = next(each for each in run_scaling(study) if each.name.startswith(name))
    assert summary.num_requests == 250
    assert summary.ttft_s_p99 is not None
    hours = summary.moments[-1].at / 3600
    assert 2 * hours <= summary.worker_hours <= 5.2 * hours
    if not name.startswith("static"):
        assert summary.most_wanted.prefill > 1
    if name.startswith("planner,"):
        assert summary.met_share > 0.5


def test_every_contender_sees_the_same_arrivals():
    study = ScalingStudy(
        trace=Trace(name="t", page_size=512, requests=()),
        depths=(1.0, 5.0),
        chart_factors=(0.5,),
        miss_shares=(0.05, 0.1),
        followed_shares=(0.1,),
    )
    assert list(study.contenders()) == [
        "static 16P 8D",
        "HPAs, 1 waiting",
        "HPAs, 5 waiting",
        "HPAs, chart x 0.5",
        "planner, 5% late",
        "planner, 10% late",
        "planner and HPAs, 10% late",
    ]
