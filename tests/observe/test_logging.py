"""Goal: logs are events with facts, parseable, free of prompts and secrets. Method: lines are read from a buffer."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from common.core.clock import ManualClock
from common.observe.logging import LogFormat, configure_logging, get_log, num_lost_lines

CANARY = "canary-7f3a"


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Global logging state is put back, so that other tests keep theirs."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_has_event_room_process_and_facts() -> None:
    stream = io.StringIO()
    configure_logging(log_format=LogFormat.JSON, process="decode-0", stream=stream, clock=ManualClock(12.5))
    get_log("services/decode").info("request_routed", request="req-1", cached_tokens=16)
    (line,) = lines(stream)
    assert line == {
        "at": 12.5,
        "process": "decode-0",
        "level": "info",
        "event": "request_routed",
        "room": "services/decode",
        "request": "req-1",
        "cached_tokens": 16,
    }


def test_prompts_and_secrets_are_withheld_and_long_values_cut() -> None:
    stream = io.StringIO()
    configure_logging(log_format=LogFormat.JSON, process="router-0", stream=stream)
    log = get_log("services/router")
    log.warning("odd", prompt=CANARY, tokens=[1], secret=CANARY, page=b"\x00" * 9, note="x" * 5000)
    (line,) = lines(stream)
    assert CANARY not in stream.getvalue()
    assert (line["prompt"], line["page"]) == ("<withheld>", "<9 bytes>")
    assert len(str(line["note"])) < 600


def test_an_exception_is_data_without_local_variables() -> None:
    stream = io.StringIO()
    configure_logging(log_format=LogFormat.JSON, process="router-0", stream=stream)

    def fail(prompt: str) -> None:
        raise RuntimeError(f"no luck with {len(prompt)} characters")

    try:
        fail(CANARY)
    except RuntimeError as error:
        get_log("services/router").error("request_failed", exc_info=error)
    (line,) = lines(stream)
    assert CANARY not in stream.getvalue()
    assert "Traceback" not in stream.getvalue()
    assert "no luck with 11 characters" in json.dumps(line["exception"])


def test_lower_levels_are_silent_and_libraries_take_the_same_road() -> None:
    stream = io.StringIO()
    configure_logging(log_format=LogFormat.JSON, process="router-0", stream=stream)
    get_log("services/router").debug("detail")
    logging.getLogger("some.library").warning("cannot %s", "connect")
    logging.getLogger("some.library").info("chatter")
    (line,) = lines(stream)
    assert (line["event"], line["room"], line["message"]) == ("library_message", "some.library", "cannot connect")


def test_the_console_is_readable() -> None:
    stream = io.StringIO()
    configure_logging(log_format=LogFormat.CONSOLE, process="router-0", stream=stream)
    get_log("services/router").info("request_routed", request="req-1")
    assert "request_routed" in stream.getvalue()
    assert "request=req-1" in stream.getvalue()


def test_a_full_disk_costs_lines_of_ours_and_of_libraries_and_nothing_else() -> None:
    with Path("/dev/full").open("w") as full:
        configure_logging(log_format=LogFormat.JSON, process="router-0", stream=full)
        assert num_lost_lines() == 0
        get_log("services/router").warning("worker_suspect", worker="decode-0")
        logging.getLogger("some.library").warning("cannot connect")
        assert num_lost_lines() == 2
    configure_logging(log_format=LogFormat.JSON, process="router-0", stream=io.StringIO())


@pytest.mark.parametrize(("level", "events"), [("debug", ["a", "b", "c"]), ("info", ["b", "c"]), ("error", ["c"])])
def test_a_level_says_what_is_left_out(level: str, events: list[str]) -> None:
    stream = io.StringIO()
    configure_logging(log_format=LogFormat.JSON, process="router-0", level=level, stream=stream)
    log = get_log("router")
    log.debug("a")
    log.info("b")
    log.error("c")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == events
