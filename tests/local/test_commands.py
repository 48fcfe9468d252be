"""Goal: every command against a running cluster, as a person types it. One cluster for all; Ctrl-C ends it, last."""

import json
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.ports import free_port, is_free
from services.local.topology import ROOT
from tests.local.shell import BATON, Up, baton, up, widest

pytestmark = [pytest.mark.cluster, pytest.mark.calm]

PROMPT = "def read_json(path):\n    "
LONG = "import os, sys, json  # a line of a module\n" * 30
"""Longer than router.local_prompt_tokens: its pages travel."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    port = free_port()
    relayed = ("--set", "router.local_prompt_tokens=64")  # whatever this machine's costs say of long prompts
    with up(tmp_path_factory.mktemp("tmp"), "--routers", "2", "--port", str(port), *relayed) as running:
        running.wait_line("Ctrl-C")
        yield running


@pytest.fixture(scope="module")
def routers(cluster: Up) -> list[str]:
    line = next(line for line in cluster.lines if line.startswith("ready: "))
    return line.removeprefix("ready: ").split(", ")


def test_starting_tells_a_line_per_service_with_its_addresses(cluster: Up) -> None:
    ready = {line.split()[2]: line.split() for line in cluster.lines if " ready " in line}
    assert set(ready) == {"valkey", "prefill-0", "decode-0", "router-0", "router-1", "gateway-0"}
    assert all(words[-1].endswith("/metrics") for name, words in ready.items() if name != "valkey")
    assert widest("\n".join(cluster.lines)) <= 80
    assert any(line.strip().startswith("http  http://127.0.0.1:") for line in cluster.lines)


def test_nothing_secret_is_visible_and_everything_listens_on_loopback(cluster: Up) -> None:
    (run_dir,) = cluster.folder.iterdir()
    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((run_dir / "secret").stat().st_mode) == 0o600
    secret = (run_dir / "secret").read_text().strip()
    assert len(secret) == 64
    for process in cluster.look():
        assert secret not in " ".join(process.cmdline())
        assert "@" not in " ".join(process.cmdline())
        listening = [each.laddr.ip for each in process.net_connections() if each.status == "LISTEN"]
        assert {address.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1"}, process.cmdline()
    assert "stale" not in "".join(file.read_text() for file in run_dir.glob("router-*.log"))


def test_either_router_answers_with_the_same_text(routers: list[str]) -> None:
    answers = [baton("generate", PROMPT, "--max-tokens", "8", "--seed", "7", "--router", router) for router in routers]
    assert [answer.returncode for answer in answers] == [0, 0]
    assert answers[0].stdout == answers[1].stdout != "\n"
    assert answers[0].stderr == ""


def test_json_is_one_object_with_everything(routers: list[str]) -> None:
    told = baton("generate", "--tokens", "1,2,3", "--max-tokens", "4", "-n", "2", "--json", "--router", routers[0])
    answer = json.loads(told.stdout)
    assert set(answer) == {"request_id", "choices", "usage", "timings"}
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    for choice in answer["choices"]:
        assert set(choice) == {"index", "text", "token_ids", "finish_reason"}
        assert choice["finish_reason"] in {"stop", "length"}
        assert len(choice["token_ids"]) <= 4
    assert answer["usage"]["prompt_tokens"] == 3
    assert answer["usage"]["completion_tokens"] == sum(len(choice["token_ids"]) for choice in answer["choices"])
    assert 0 < answer["timings"]["ttft_s"] <= answer["timings"]["total_s"]


def test_the_prompt_may_come_from_standard_input_or_a_file(routers: list[str], tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text(PROMPT)
    flags = ("--temperature", "0", "--max-tokens", "6", "--router", routers[0])
    typed = baton("generate", PROMPT, *flags).stdout
    assert baton("generate", *flags, text=PROMPT).stdout == typed
    assert baton("generate", "--file", str(file), *flags).stdout == typed


def test_a_chat_is_answered_and_a_stop_string_ends_it(routers: list[str]) -> None:
    flags = ("--temperature", "0", "--max-tokens", "24", "--json", "--router", routers[0])
    whole = json.loads(baton("generate", "--chat", "Write a function that reads a file.", *flags).stdout)
    text = whole["choices"][0]["text"]
    assert whole["usage"]["prompt_tokens"] > 9  # the template's own words come on top
    stop = text[5:8]
    cut = json.loads(baton("generate", "--chat", "Write a function that reads a file.", "--stop", stop, *flags).stdout)
    assert cut["choices"][0]["text"] == text[: text.index(stop)]
    assert cut["choices"][0]["finish_reason"] == "stop"


def test_refused_values_are_all_named_and_exit_with_two(routers: list[str]) -> None:
    told = baton("generate", "x", "--temperature", "-1", "--top-p", "7", "-n", "0", "--router", routers[0])
    assert told.returncode == 2
    for field in ("sampling.temperature", "sampling.top_p", "sampling.n"):
        assert told.stderr.count(f"{field}: ") == 1


def test_a_deadline_that_passes_exits_with_five(routers: list[str]) -> None:
    told = baton("generate", LONG, "--timeout", "0.005", "--router", routers[0])
    assert told.returncode == 5
    assert "deadline" in told.stderr or "ran out of time" in told.stderr  # whoever noticed first


def test_a_request_can_be_followed_and_explained(routers: list[str]) -> None:
    asked = baton("generate", LONG, "--max-tokens", "4", "--request-id", "followed", "--router", routers[1])
    assert asked.returncode == 0
    drawn = baton("waterfall", "followed", "--router", routers[1]).stdout
    for station in ("received", "prefill_started", "chunk_shipped", "chunk_landed", "verified", "first_token"):
        assert f" {station} " in drawn
    why = baton("explain", "followed", "--router", routers[1]).stdout
    assert "*  prefill-0 > decode-0" in why
    assert "local:decode-0" in why
    assert widest(why) <= 80


@pytest.mark.parametrize("command", ["waterfall", "explain"])
def test_an_unknown_request_exits_with_six(command: str, routers: list[str]) -> None:
    told = baton(command, "nobody", "--router", routers[0])
    assert told.returncode == 6
    assert "nobody" in told.stderr


def test_top_once_fits_eighty_columns(routers: list[str]) -> None:
    told = baton("top", "--count", "1", "--router", routers[0])
    assert told.returncode == 0
    assert widest(told.stdout) <= 80
    for words in ("tokens/s", "TTFT", "p99", "prefill-0", "decode-0", "pages in use"):
        assert words in told.stdout


def test_doctor_finds_all_well_and_measures_the_link(routers: list[str]) -> None:
    told = baton("doctor", "--router", routers[0])
    assert told.returncode == 0, told.stdout
    assert "FAULT" not in told.stdout
    assert "every file matches its manifest; the cluster serves it" in " ".join(told.stdout.split())
    assert "the router reaches it" in " ".join(told.stdout.split())
    assert "prefill-0 > decode-0" in told.stdout
    assert "GiB/s" in told.stdout
    assert widest(told.stdout) <= 80


def test_doctor_says_when_the_files_here_are_not_what_the_cluster_serves(routers: list[str], tmp_path: Path) -> None:
    told = baton("doctor", "--router", routers[0], "--set", f"model.path={tmp_path}")
    assert told.returncode == 0
    assert "note  model files" in told.stdout


def test_doctor_names_a_frozen_worker_and_its_link(cluster: Up, routers: list[str]) -> None:
    """Or, where asking took so long that the router has given it up, as one that went without a goodbye."""
    worker = cluster.child("services.decode")
    worker.suspend()
    try:
        told = baton("doctor", "--router", routers[0])
    finally:
        worker.resume()
    assert told.returncode == 7
    faults = [line.split()[1] for line in told.stdout.splitlines() if line.startswith("FAULT")]
    assert "decode-0" in faults
    said = " ".join(told.stdout.split())  # lines are wrapped
    assert "broken" in said or "without a goodbye" in said, said


def test_a_killed_worker_returns_and_answers_again(cluster: Up, routers: list[str]) -> None:
    cluster.child("services.decode").kill()
    assert "ended by SIGKILL, restarting" in cluster.wait_line("decode-0  failed")
    cluster.wait_line("decode-0  ready")
    assert baton("generate", PROMPT, "--max-tokens", "4", "--router", routers[0]).returncode == 0


def test_a_router_that_dies_amid_an_answer_exits_with_three_and_is_started_again(
    cluster: Up, routers: list[str]
) -> None:
    flags = ("--ignore-eos", "--max-tokens", "2000", "--router", routers[1])
    with subprocess.Popen([*BATON, "generate", "x", *flags], cwd=ROOT, stdout=-1, stderr=-1, text=True) as asked:
        assert asked.stdout is not None
        assert asked.stdout.read(1)
        cluster.child("--name router-1").kill()
        _, told = asked.communicate(timeout=30)
    assert asked.returncode == 3
    assert told == f"baton: the router at {routers[1]} went away amid the answer\n"
    assert cluster.wait_line("router-1  ready").split()[-2] == routers[1]


def test_a_killed_valkey_returns_on_its_port(cluster: Up, routers: list[str]) -> None:
    before = next(line.split()[-1] for line in cluster.lines if "valkey    ready" in line)
    cluster.child("valkey-server").kill()
    assert cluster.wait_line("valkey    ready").split()[-1] == before
    assert baton("generate", PROMPT, "--max-tokens", "4", "--router", routers[1]).returncode == 0


def test_ctrl_c_stops_all_and_leaves_nothing(cluster: Up, routers: list[str]) -> None:
    """Last: the cluster is gone afterwards."""
    assert cluster.end(signal.SIGINT) == 0
    assert cluster.lines[-1] == "stopped: nothing is left running"
    cluster.check_nothing_is_left()
    assert all(is_free(int(router.rpartition(":")[2])) for router in routers)
    assert baton("top", "--count", "1", "--router", routers[0]).returncode == 3
