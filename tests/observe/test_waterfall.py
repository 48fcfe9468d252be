"""Goal: a waterfall can be read: one line per station, bars in proportion, no surprise for odd input."""

from common.observe.lifetime import Mark
from common.observe.waterfall import render_waterfall


def test_each_station_has_a_line_with_its_bar_and_facts() -> None:
    marks = [
        Mark(station="received", at=100.0, where="router-0", facts={"prompt_tokens": 2048}),
        Mark(station="finished", at=101.0, where="decode-0"),
        Mark(station="first_token", at=100.5, where="prefill-0"),
    ]
    text = render_waterfall("req-1 finished", marks, width=10)
    lines = text.splitlines()
    assert lines[0] == "req-1 finished: 1000.0 ms over 3 stations"
    assert [line.split()[4] for line in lines[1:]] == ["received", "first_token", "finished"]
    assert lines[1].endswith("|╸         |  prompt_tokens=2,048")
    assert "|━━━━━╸    |" in lines[2]
    assert "|     ━━━━╸|" in lines[3]
    assert len({line.index("|") for line in lines[1:]}) == 1


def test_odd_input_is_shown_too() -> None:
    assert render_waterfall("req-1", []) == "req-1: no stations recorded"
    one = render_waterfall("req-1", [Mark(station="received", at=5, where="r")])
    assert "0.0 ms" in one
    many = [Mark(station="chunk_computed", at=float(at), where="p") for at in range(500)]
    assert render_waterfall("req-1", many, max_lines=10).splitlines()[-1].strip() == "490 more stations"
