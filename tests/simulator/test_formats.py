"""Traces as people publish them: every format, every dressing of a file, and what is wrong told with its line."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from common.core.errors import InvalidRequest
from services.simulator import lines, trace
from services.simulator.read import read_trace

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
LATER = BURST.replace("Timestamp,", "Timestamp,Session ID,Elapsed time,")
TALK = '{"timestamp": 1000, "input_length": 600, "output_length": 2, "hash_ids": [4, 5]}\n'


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_times_with_a_zone_count_from_the_first_whole_second(tmp_path: Path) -> None:
    text = AZURE + "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10T02:00:01.5+02:00,399,0\n"
    first, second = read_trace(written(tmp_path, "week.csv", text)).requests
    assert [first.arrived_s, second.arrived_s] == pytest.approx([0.00993, 1.5])
    assert (second.prompt_tokens, second.output_tokens) == (399, 1), "every request draws at least one token"


@pytest.mark.parametrize(
    "text",
    [
        BURST + "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,230,1317,API log\n",
        LATER + "5,a,1,ChatGPT,472,18,490,Conversation log\n45.0,b,2,GPT-4,1087,230,1317,API log\n",
    ],
    ids=["first files", "later files"],
)
def test_burst_gpt_is_read_in_seconds_from_its_first_request(tmp_path: Path, text: str) -> None:
    read = read_trace(written(tmp_path, "burst.csv", text))
    assert [each.arrived_s for each in read.requests] == [0.0, 40.0]
    assert [(each.prompt_tokens, each.output_tokens) for each in read.requests] == [(472, 18), (1087, 230)]


def test_qwens_traces_have_seconds_and_small_blocks(tmp_path: Path) -> None:
    """Read as Mooncake's they would be a thousand times as fast, with a page for every thirty-two."""
    told = {"chat_id": 7, "parent_chat_id": -1, "timestamp": 61.5, "input_length": 40, "output_length": 9, "turn": 1}
    text = json.dumps(told | {"hash_ids": [11, 12, 13]}) + "\n" + json.dumps(told | {"timestamp": 62.5}) + "\n"
    read = read_trace(written(tmp_path, "qwen.jsonl", text))
    first, second = read.requests
    assert (read.page_size, second.arrived_s - first.arrived_s, first.pages) == (16, 1.0, (11, 12))
    assert len(second.pages) == 2
    assert not set(first.pages) & set(second.pages), "what is not named is shared with nobody"


def test_whose_a_trace_is_all_of_its_lines_say(tmp_path: Path) -> None:
    """The first line alone would make seconds of Qwen's to milliseconds: everything a thousand times as fast."""
    plain = '{"timestamp": 61, "input_length": 40, "output_length": 9}\n'
    text = plain + plain.replace("{", '{"chat_id": 7, ').replace("61", "62.5")
    read = read_trace(written(tmp_path, "qwen.jsonl", text))
    assert (read.page_size, [each.arrived_s for each in read.requests]) == (16, [0.0, 1.5])


@pytest.mark.parametrize(
    ("timestamp", "more", "why"),
    [
        ("1700000000", "", "are dates in seconds; milliseconds are needed"),
        ("1700000000.25", "", "are dates in seconds; milliseconds are needed"),
        ("1700000000000000", "", "are dates in microseconds; milliseconds are needed"),
        ("1700000000000", '"chat_id": 1, ', "are dates in milliseconds; seconds are needed"),
    ],
)
def test_dates_in_another_unit_are_refused(tmp_path: Path, timestamp: str, more: str, why: str) -> None:
    text = f'{{{more}"timestamp": {timestamp}, "input_length": 40, "output_length": 9}}\n'
    with pytest.raises(InvalidRequest, match=why):
        read_trace(written(tmp_path, "dates.jsonl", text))


@pytest.mark.parametrize("timestamp", ["0", "999999", "1700000000000"])
def test_times_of_the_formats_own_unit_are_none_of_another(tmp_path: Path, timestamp: str) -> None:
    assert read_trace(written(tmp_path, "own.jsonl", TALK.replace("1000", timestamp))).requests


def test_a_trace_out_of_order_begins_at_its_earliest_request(tmp_path: Path) -> None:
    text = AZURE + "2023-11-16 18:17:05,10,1\n2023-11-16 18:17:01.25,20,1\n"
    first, second = read_trace(written(tmp_path, "late.csv", text)).requests
    assert (first.arrived_s, first.prompt_tokens, second.arrived_s) == (0.25, 20, 4.0)


def test_a_trace_that_begins_at_a_date_begins_at_none(tmp_path: Path) -> None:
    text = TALK.replace("1000", "1700000000000") + TALK.replace("1000", "1700000000250")
    assert [each.arrived_s for each in read_trace(written(tmp_path, "epoch.jsonl", text)).requests] == [0.0, 0.25]


@pytest.mark.parametrize(
    ("ending", "dress"),
    [
        ("", lambda data: b"\xef\xbb\xbf" + data),
        ("", lambda data: data.replace(b"\n", b"\r\n")),
        ("", lambda data: data.replace(b"\n", b"\n\n")),
        ("", lambda data: data.rstrip()),
        (".gz", gzip.compress),
    ],
    ids=["byte order mark", "CRLF", "blank lines", "no last end", "gzip"],
)
@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", BURST + "5,x,472,18,490,y\n"), ("a.jsonl", TALK)], ids=["table", "objects"]
)
def test_a_files_dressing_does_not_matter(
    tmp_path: Path, name: str, text: str, ending: str, dress: Callable[[bytes], bytes]
) -> None:
    plain = read_trace(written(tmp_path, name, text))
    assert read_trace(written(tmp_path, name + ending, dress(text.encode()))).requests == plain.requests


@pytest.mark.parametrize(("name", "text"), [("A.CSV", BURST + "5,x,472,18,490,y\n"), ("A.JSONL", TALK)])
def test_the_ending_may_be_written_large(tmp_path: Path, name: str, text: str) -> None:
    plain = read_trace(written(tmp_path, name, text))
    assert read_trace(written(tmp_path, name + ".GZ", gzip.compress(text.encode()))).requests == plain.requests


def test_negative_names_are_told_from_blocks_without_a_name(tmp_path: Path) -> None:
    lines = [TALK.replace("[4, 5]", "[-1, -2]"), TALK.replace("[4, 5]", "[]"), TALK.replace("[4, 5]", "[-1, -3]")]
    first, unnamed, again = read_trace(written(tmp_path, "a.jsonl", "".join(lines))).requests
    assert first.pages == again.pages
    assert not set(first.pages) & set(unnamed.pages)


def test_whole_numbers_are_read_as_tables_with_gaps_spell_them(tmp_path: Path) -> None:
    read = read_trace(written(tmp_path, "a.csv", BURST + "5.0,x,472.0,18.0,490.0,y\n"))
    assert (read.requests[0].prompt_tokens, read.requests[0].output_tokens) == (472, 18)


CUT_SHORT = gzip.compress((BURST + "5,x,4,1,5,y\n" * 9999).encode(), mtime=0)[:90]


@pytest.mark.parametrize(
    ("name", "data", "place", "why"),
    [
        ("a.csv", "2023-11-16 18:17:03.97,48,10\n", "line 1", "no known columns"),
        ("a.csv", AZURE + "2023-11-16 18:17:03,48\n", "line 2", "2 columns, the header has 3"),
        ("a.csv", AZURE + "2024-02-30 00:00:00,48,1\n", "line 2", "TIMESTAMP is '2024-02-30 00:00:00': day is out"),
        ("a.csv", AZURE + "2024-02-29 23:59:60Z,48,1\n", "line 2", "TIMESTAMP is '2024-02-29 23:59:60Z': second must"),
        ("a.csv", f"ContextTokens,{AZURE}1,2024-02-29 23:59:00,48,1\n", "line 1", "names ContextTokens twice"),
        ("a.csv", AZURE + "2023-11-16 18:17:03,48,1\n2023-11-16 18:17:03Z,48,1\n", "line 3", "time zone"),
        ("a.csv", AZURE + "2023-13-16 18:17:03,48,1\n", "line 2", "month"),
        ("a.csv", AZURE + "2023-11-16 18:17:03,,1\n", "line 2", "ContextTokens is ''"),
        ("a.csv", AZURE + "2023-11-16 18:17:03,0,1\n", "line 2", "ContextTokens is '0'"),
        ("a.csv", AZURE + "2023-11-16 18:17:03,-5,1\n", "line 2", "ContextTokens is '-5'"),
        ("a.csv", AZURE + "2023-11-16 18:17:03,1e3,1\n", "line 2", "a whole number"),
        ("a.csv", AZURE + "2023-11-16 18:17:03," + "9" * 5000 + ",1\n", "line 2", "a whole number"),
        ("a.csv", BURST + "nan,x,4,1,5,y\n", "line 2", "Timestamp is 'nan'"),
        ("a.csv", BURST + '5,"x,4,1,5,y\n', "line 2", "unexpected end"),
        ("a.csv", BURST.encode() + b"5,\xff,4,1,5,y\n", "line 2", "not UTF-8"),
        ("a.csv", BURST.encode("utf-16"), "line 1", "not UTF-8"),
        ("a.csv", BURST, "a.csv", "no request"),
        ("a.jsonl", TALK + '{"timestamp": NaN, "input_length": 1, "output_length": 1}\n', "line 2", "timestamp is nan"),
        ("a.jsonl", TALK.replace("600", "true"), "line 1", "input_length is True"),
        ("a.jsonl", TALK.replace("600", "600.5"), "line 1", "input_length is 600.5"),
        ("a.jsonl", TALK.replace("600", "9" * 5000), "line 1", "digits"),
        ("a.jsonl", TALK.replace("600", "100000000000"), "line 1", "to 10000000 is needed"),
        ("a.jsonl", TALK.replace("[4, 5]", '"abc"'), "line 1", "hash_ids is no list"),
        ("a.jsonl", TALK.replace("[4, 5]", str([*range(38)])), "line 1", "38 hash_ids for 600 prompt tokens"),
        ("a.jsonl", TALK.replace("1000", "0") + TALK.replace("1000", "1.7e15"), "a.jsonl", "another unit"),
        ("a.jsonl", "[" * 100_000, "line 1", "no JSON object"),
        ("a.jsonl", '{"prompt": "hello", "output_tokens": 5}\n', "line 1", "timestamp, input_length, output_length"),
        ("a.jsonl", '[{"timestamp": 0}]\n', "line 1", "one per line"),
        ("a.jsonl", "\n\n{", "line 3", "column 2"),
        ("a.json", '[{"conversations": []}]', "a.json", "ends in"),
        ("a.csv.gz", AZURE, "line 1", "Not a gzipped file"),
        ("a.csv.gz", CUT_SHORT, "a.csv.gz", "cannot be read"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_its_place(
    tmp_path: Path, name: str, data: str | bytes, place: str, why: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read_trace(written(tmp_path, name, data))
    said = str(refusal.value)
    assert place in said
    assert why in said
    assert "\n" not in said
    assert len(said) < 400


def test_a_file_without_lines_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 100)
    with pytest.raises(InvalidRequest, match="line 1: over 100 bytes"):
        read_trace(written(tmp_path, "a.jsonl", "[" + "1," * 5000))


def test_a_year_of_requests_is_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "MAX_SPAN_S", 2.0)
    assert len(read_trace(written(tmp_path, "a.jsonl", TALK + TALK.replace("1000", "3000"))).requests) == 2
