"""Goal: what needs no cluster: help, usage errors, and a configuration that is refused before anything starts."""

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.local.cli import app
from services.local.exits import MEANINGS, Exit
from services.local.ports import choose_ports, free_port

COMMANDS = (
    "up",
    "demo",
    "generate",
    "top",
    "waterfall",
    "explain",
    "replay",
    "doctor",
    "simulate",
    "plan",
    "calibrate",
    "config",
)


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, list(arguments))
    return result.exit_code, result.output


def test_help_names_every_command_and_every_exit_code() -> None:
    code, text = invoke("--help")
    assert code == 0
    for command in COMMANDS:
        assert f"  {command} " in text
    for exit_code in Exit:
        assert f"{exit_code.value:>4}  {MEANINGS[exit_code]}" in text
    assert "..." not in text.partition("\n")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_within_eighty_columns(command: str) -> None:
    code, text = invoke(command, "--help")
    assert code == 0
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("engine.pagesize=1", "did you mean engine.page_size?"),
        ("engine.page_size=abc", "expected a whole number, got 'abc'"),
        ("nonsense", "write section.key=value"),
        ("local.decode=0", "0 is below the minimum 1"),
    ],
)
@pytest.mark.parametrize("command", ["up", "demo", "doctor", "config"])
def test_a_wrong_setting_exits_with_78_and_says_what_is_right(command: str, setting: str, words: str) -> None:
    code, text = invoke(command, "--set", setting)
    assert code == Exit.CANNOT_START
    assert words in text


def test_a_file_that_is_not_there_exits_with_78(tmp_path: Path) -> None:
    code, text = invoke("config", "--config", str(tmp_path / "none.toml"))
    assert code == Exit.CANNOT_START
    assert "No such file or directory" in text


def test_config_shows_origins(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[engine]\npage_size = 32\n")
    code, text = invoke("config", "--print", "--config", str(file), "--set", "liveness.lease_s=5")
    assert code == 0
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["engine.page_size"][1] == "32"
    assert rows["engine.page_size"][-2:] == ["file", "mine.toml"]
    assert rows["liveness.lease_s"][-1] == "--set"
    assert rows["liveness.heartbeat_s"][-1] == "default"


def test_a_long_value_stays_in_one_piece_for_programs_that_search() -> None:
    address = "redis://" + "a" * 90 + ":6379/0"
    _, text = invoke("config", "--set", f"cluster.redis_url={address}")
    [line] = [line for line in text.splitlines() if line.startswith("cluster.redis_url ")]
    assert line.split()[1] == address


def test_config_with_reasons_says_who_reads_a_value_and_why() -> None:
    _, text = invoke("config", "--reasons")
    assert "engine.page_size = 16 tokens per page  (default, read by common/kv)" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generate", "x", "--priority", "urgent"), "urgent"),
        (("generate", "--tokens", "1,a"), "'a'"),
        (("generate", "x", "--router", "nonsense"), "'nonsense' is not like 127.0.0.1:7450"),
        (("generate", "x", "--router", "host:99999"), "'host:99999' is not like 127.0.0.1:7450"),
        (("generate", "x", "--sampling", "temperature"), "is not FIELD=VALUE"),
        (("generate", "x", "--nonsense"), "--nonsense"),
        (("waterfall",), "REQUEST_ID"),
        (("up", "--port", "0"), "--port"),
    ],
)
def test_wrong_usage_exits_with_two(arguments: tuple[str, ...], words: str) -> None:
    code, text = invoke(*arguments)
    assert code == Exit.USAGE
    assert words in text
    assert "Traceback" not in text


def test_the_version_is_told() -> None:
    assert invoke("--version") == (Exit.OK, "baton 0.1.0\n")


@pytest.mark.parametrize("command", [("generate", "x"), ("top", "--count", "1"), ("waterfall", "r"), ("explain", "r")])
def test_where_no_router_answers_the_exit_is_three(command: tuple[str, ...]) -> None:
    code, text = invoke(*command, "--router", f"127.0.0.1:{free_port()}")
    assert code == Exit.UNREACHABLE
    assert "is `baton up` running?" in text


def test_doctor_without_a_cluster_is_unhappy_and_says_what_to_run() -> None:
    code, text = invoke("doctor", "--router", f"127.0.0.1:{free_port()}")
    assert code == Exit.UNHEALTHY
    assert "nothing listens there" in text
    assert "run `baton up`" in text


def test_taken_ports_are_replaced_one_by_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with choose_ports(port, 2) as (first, second):
            assert first != port
            assert second != first


def test_a_port_that_another_cluster_has_chosen_is_taken_before_anything_listens_there() -> None:
    port = free_port()
    with choose_ports(port, 1) as (first,), choose_ports(port, 1) as (second,):
        assert first == port
        assert second != port
    with choose_ports(port, 1) as (third,):
        assert third == port


@pytest.mark.parametrize("timeout", ["inf", "1e30", "nan", "0"])
def test_a_deadline_that_cannot_be_kept_is_wrong_usage(timeout: str) -> None:
    """gRPC makes none at all of a very late one: the command said that it had passed."""
    code, text = invoke("generate", "x", "--timeout", timeout)
    assert (code, "--timeout" in text) == (Exit.USAGE, True), text
