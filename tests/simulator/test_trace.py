"""Trace files: both formats, their mistakes by line, and arrivals freed of their clock's tick."""

from pathlib import Path

import pytest

from common.core.errors import InvalidRequest
from services.simulator.arrivals import find_tick_s, spread
from services.simulator.read import read_trace
from services.simulator.trace import TraceRequest, in_order


def test_a_conversation_names_its_full_pages(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_text(
        '{"timestamp": 3000, "input_length": 1300, "output_length": 5, "hash_ids": [0, 7, 9]}\n'
        '{"timestamp": 0, "input_length": 512, "output_length": 0, "hash_ids": [0]}\n'
    )
    trace = read_trace(path)
    assert [request.arrived_s for request in trace.requests] == [0.0, 3.0]
    assert [request.pages for request in trace.requests] == [(0,), (0, 7)], "a partly filled page cannot be found"
    assert trace.requests[0].output_tokens == 1, "every request draws at least one token"


def test_a_csv_counts_from_its_first_line_and_shares_nothing(tmp_path: Path) -> None:
    path = tmp_path / "code.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,1100,10\n2023-11-16 18:17:05.0319600,1100,8\n"
    )
    first, second = read_trace(path).requests
    assert second.arrived_s - first.arrived_s == pytest.approx(1.052)
    assert len(first.pages) == len(second.pages) == 2
    assert not set(first.pages) & set(second.pages)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.jsonl", '{"timestamp": 0}\n', "line 1"),
        ("a.jsonl", '{"timestamp": 0, "input_length": 0, "output_length": 1, "hash_ids": []}\n', "line 1"),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,1\n", "line 2"),
        ("a.csv", "time,tokens\n1,1\n", "line 1: the first line names no known columns"),
        ("a.txt", "", "ends in"),
        ("a.jsonl", "", "no request"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_with_the_place(tmp_path: Path, name: str, text: str, line: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=line):
        read_trace(path)


def ticking(tick_s: float, count: int) -> list[TraceRequest]:
    return [
        TraceRequest(arrived_s=index // 5 * tick_s, prompt_tokens=1, output_tokens=1, pages=())
        for index in range(count)
    ]


def test_a_tick_is_found_and_undone_within_itself() -> None:
    trace = in_order("ticking", 16, ticking(3.0, 500))
    assert find_tick_s(trace.requests) == 3.0
    moved = spread(trace, seed=1)
    assert len({request.arrived_s for request in moved.requests}) == 500
    for window in range(100):
        inside = sum(window * 3.0 <= request.arrived_s < window * 3.0 + 3.0 for request in moved.requests)
        assert inside == 5, f"window {window} holds {inside}"


def test_the_same_seed_gives_the_same_arrivals_and_another_one_others() -> None:
    trace = in_order("ticking", 16, ticking(1.0, 200))
    assert spread(trace, seed=3) == spread(trace, seed=3)
    assert spread(trace, seed=3) != spread(trace, seed=4)


def test_exact_timestamps_stay_and_speed_divides_them() -> None:
    exact = [
        TraceRequest(arrived_s=(index * 0.37) ** 1.3, prompt_tokens=1, output_tokens=1, pages=())
        for index in range(200)
    ]
    trace = in_order("exact", 16, exact)
    assert find_tick_s(trace.requests) == 0.0
    assert spread(trace, speed=2.0).span_s == pytest.approx(trace.span_s / 2)
    moved = spread(trace, seed=5).requests
    assert moved != trace.requests
    for before, at, after in zip(trace.requests, moved, trace.requests[1:], strict=False):
        assert before.arrived_s <= at.arrived_s <= after.arrived_s
