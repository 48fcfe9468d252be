"""Goal: what a terminal of 80 columns shows is readable: whole lines, the right numbers, the right order."""

import io

import pytest
from rich.console import Console, RenderableType

from common.core.clock import ManualClock
from common.observe.announce import Announcement, Phase
from protos.baton.v1 import cluster_pb2, types_pb2, worker_pb2
from services.local.duration import duration
from services.local.explain import candidate_table
from services.local.finding import fault, is_healthy, note, print_findings, well
from services.local.links import Link, link_findings, link_table
from services.local.progress import Progress
from services.local.summary import cluster_view
from services.local.waterfall import print_stations
from services.local.workers import check_missing
from tests.local.shell import widest


def terminal(width: int = 80, *, is_terminal: bool = True) -> Console:
    return Console(width=width, file=io.StringIO(), force_terminal=is_terminal, color_system=None)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def shown(what: RenderableType) -> str:
    console = terminal()
    console.print(what)
    return text_of(console)


def worker(name: str, state: str = "ready", **load: float) -> cluster_pb2.WorkerView:
    report = worker_pb2.LoadReport(total_pages=1000, **load)  # type: ignore[arg-type]
    return cluster_pb2.WorkerView(worker=types_pb2.WorkerRef(worker_id=name), state=state, load=report)


def test_a_large_cluster_fits() -> None:
    busy = {"waiting_requests": 256, "running_sequences": 64, "free_pages": 123456, "cached_pages": 123456}
    view = cluster_pb2.GetClusterResponse(
        workers=[
            worker(f"prefill-{number}", "draining", **busy, step_seconds=1.234, step_batch=64) for number in (10, 2)
        ],
        queued_requests=1024,
        active_requests=1024,
        figures={"ttft_seconds_p50": 0.025, "e2e_seconds_p99": 120.0, "requests_finished": 123456.0},
    )
    text = shown(cluster_view(view, tokens_per_s=12345.0))
    assert widest(text) <= 80
    assert "12345 tokens/s" in text
    assert "≤ 25 ms" in text
    assert "≤ 120 s" in text


def test_pages_in_use_are_those_that_somebody_holds() -> None:
    view = cluster_pb2.GetClusterResponse(
        workers=[worker("d", promised_pages=100, referenced_pages=150, cached_pages=700)]
    )
    assert "■■■·······  25%" in shown(cluster_view(view))


def test_a_lost_redis_and_an_empty_fleet_are_said() -> None:
    text = shown(cluster_view(cluster_pb2.GetClusterResponse(directory_is_stale=True)))
    assert "Redis does not answer" in text
    assert "no worker is known" in text


def test_candidates_are_listed_from_cheap_to_dear_with_the_chosen_one_marked() -> None:
    dear = cluster_pb2.CandidateCost(route="local:decode-0", cost_s=0.07, terms={"extend": 0.0676, "young": 0.0})
    cheap = cluster_pb2.CandidateCost(
        route="prefill-0>decode-0", cost_s=0.039, terms={"hand_over": 0.005, "prefill": 0.034}
    )
    decision = cluster_pb2.Decision(attempt=1, chosen="prefill-0>decode-0", candidates=[dear, cheap])
    lines = [line.split() for line in shown(candidate_table(decision)).splitlines()[1:]]
    assert lines[0] == ["*", "prefill-0", ">", "decode-0", "39.0", "ms", "prefill", "34.0,", "hand", "over", "5.0"]
    assert lines[1] == ["local:decode-0", "70.0", "ms", "extend", "67.6"]


STATIONS = [
    types_pb2.Station(name="finished", at_s=0.4, where="router-0"),
    types_pb2.Station(name="received", at_s=0.0, where="router-0"),
    types_pb2.Station(name="chunk_shipped", at_s=0.1, where="prefill-0", facts={"pages": 11, "bytes": 1441792}),
]


def test_a_waterfall_fits_the_terminal_in_the_order_of_time() -> None:
    console = terminal()
    print_stations(console, "req-1", STATIONS)
    lines = text_of(console).splitlines()
    assert widest(text_of(console)) <= 80
    assert [line.split()[2] for line in lines[1:]] == ["received", "chunk_shipped", "finished"]
    words = ["100.0", "100.0", "chunk_shipped", "prefill-0", "━━━·········", "bytes=1,441,792", "pages=11"]
    assert lines[2].split() == words
    assert "···━━━━━━━━━" in lines[3]


def test_a_waterfall_that_is_piped_has_a_whole_line_per_station() -> None:
    console = terminal(20, is_terminal=False)
    print_stations(console, "req-1", STATIONS)
    lines = text_of(console).splitlines()
    assert len(lines) == 4
    assert lines[2].endswith("bytes=1,441,792 pages=11")


def test_a_long_announcement_continues_below_itself() -> None:
    console = terminal()
    progress = Progress(console, ManualClock())
    progress(Announcement(name="prefill-0", phase=Phase.LOADING, detail="[words] " * 12))
    progress(Announcement(name="prefill-0", phase=Phase.READY, address="127.0.0.1:50000", metrics="127.0.0.1:50001"))
    lines = text_of(console).splitlines()
    assert widest(text_of(console)) <= 80
    assert lines[1].startswith(" " * 28 + "[words]")
    assert lines[-1].rstrip().endswith("127.0.0.1:50000  http://127.0.0.1:50001/metrics")


def test_only_a_fault_makes_a_cluster_unhealthy() -> None:
    console = terminal()
    findings = [well("a", "fine"), note("b", "odd", "look"), fault("c", "broken", "mend it")]
    print_findings(findings, console)
    assert [line.split()[0] for line in text_of(console).splitlines()] == ["ok", "note", "fix:", "FAULT", "fix:"]
    assert is_healthy(findings[:2])
    assert not is_healthy(findings)


def test_a_broken_link_is_a_fault_with_both_ends_named() -> None:
    from common.core.ids import Epoch, WorkerId, WorkerRef

    sender, receiver = (WorkerRef(WorkerId(name), Epoch(1), "127.0.0.1:1") for name in ("prefill-0", "decode-0"))
    broken = Link(sender=sender, receiver=receiver, trouble="no route")
    (finding,) = link_findings([broken])
    assert not is_healthy([finding])
    assert finding.what == "link prefill-0 > decode-0"
    assert "broken" in shown(link_table([broken]))


def test_who_went_without_a_word_is_named_by_top_and_by_the_doctor() -> None:
    ref = types_pb2.WorkerRef(worker_id="decode-1", address="10.0.0.7:7500")
    gone = cluster_pb2.MissingWorker(worker=ref, role=types_pb2.ROLE_DECODE, silent_s=7_505.0)
    assert "decode-1 is gone since 2 h 5 min" in shown(cluster_view(cluster_pb2.GetClusterResponse(missing=[gone])))
    (finding,) = check_missing([gone])
    assert finding.what == "decode-1"
    assert "decode at 10.0.0.7:7500: gone 2 h 5 min ago" in finding.detail
    assert finding.fix
    assert not is_healthy([finding])


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (59.6, "1 min"), (125, "2 min 5 s"), (3_600, "1 h"), (200_000, "2 d 7 h")]
)
def test_durations_have_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words
