"""`baton bench` as a person runs it, on the simulated executor."""

import json

import pytest

from services.local.exits import Exit
from tests.local.shell import baton

SIM = ("--set", "engine.executor=sim", "--rounds", "1", "--attempts", "1")


@pytest.mark.cluster
@pytest.mark.calm
def test_the_same_workload_runs_in_process_and_through_a_cluster(tmp_path):
    """Conditions come first, and no figure without them."""
    out = tmp_path / "decode.jsonl"
    result = baton("bench", "decode", *SIM, "--streams", "2", "--out", str(out))
    assert result.returncode == Exit.OK, result.stderr
    conditions, *samples = [json.loads(line) for line in out.read_text().splitlines()]
    assert conditions["kind"] == "conditions"
    assert conditions["versions"]["python"]
    assert conditions["cores"] >= 1
    assert "commit" in conditions
    assert str(tmp_path) not in out.read_text()
    assert {sample["contender"] for sample in samples} == {"engine", "relay"}
    assert all(sample["figures"]["tok_s"] > 0 and sample["foreign"] >= 0 for sample in samples)
    assert "decode_2" in result.stdout


@pytest.mark.cluster
@pytest.mark.calm
def test_a_hand_over_is_measured_by_its_stations(tmp_path):
    out = tmp_path / "transfer.jsonl"
    result = baton("bench", "transfer", *SIM, "--set", "engine.sim_step_ms=10", "--prompt", "512", "--out", str(out))
    assert result.returncode == Exit.OK, result.stderr
    samples = [json.loads(line) for line in out.read_text().splitlines()][1:]
    assert all(not sample["error"] for sample in samples), samples
    figures = samples[0]["figures"]
    assert figures["kv_mib"] > 0
    assert figures["link_gib_s"] > 0
    assert figures["itl_count_landing"] > 0


def test_a_comparison_without_peers_says_who_is_missing_and_measures_baton(tmp_path):
    peers, model = tmp_path / "peers.json", tmp_path / "model"
    peers.write_text('{"other": {"cmd": "{venvs}/other/bin/python --port {port}"}}')
    model.mkdir()
    (model / "config.json").write_text('{"vocab_size": 1000, "max_position_embeddings": 4096}')
    result = baton(
        *("bench", "compare", *SIM, "--peers", str(peers), "--venvs", str(tmp_path), "--model", str(model)),
        *("--on", "engine", "--workload", "prefix"),
    )
    assert result.returncode == Exit.OK, result.stderr
    assert "other is missing" in result.stdout
    assert "prefix_1920_of_2048" in result.stdout


def test_a_run_that_measured_nothing_has_failed(tmp_path):
    result = baton("bench", "decode", *SIM, "--on", "relay", "--model", str(tmp_path / "none"))
    assert result.returncode == Exit.CANNOT_START, result.stdout
    assert "nothing was measured" in result.stderr


def test_a_peer_that_the_file_does_not_have_is_refused(tmp_path):
    peers, model = tmp_path / "peers.json", tmp_path / "model"
    peers.write_text("{}")
    model.mkdir()
    (model / "config.json").write_text('{"vocab_size": 1000, "max_position_embeddings": 4096}')
    result = baton(
        *("bench", "compare", "--peers", str(peers), "--venvs", str(tmp_path), "--model", str(model)),
        *("--select", "nobody"),
    )
    assert result.returncode == Exit.CANNOT_START
    assert "nobody" in result.stderr
