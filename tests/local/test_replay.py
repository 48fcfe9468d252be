"""Goal: `baton replay` says what came out the same and what would not. Method: a log made by hand, output captured."""

import random
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from common.core.errors import InvalidRequest
from common.core.ids import RequestId
from protos.baton.v1 import cluster_pb2
from services.local.explain import MEANING, sentences
from services.local.replay import POLICIES, replay_log
from services.router.decisions.entry import Entry, Header, Question, write_line
from services.router.policy import PolicySettings, choose
from tests.router.questions import question

SETTINGS = PolicySettings()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    rng, file = random.Random(11), tmp_path / "router-0.jsonl"
    with file.open("w") as out:
        out.write(write_line(Header(router="router-0", settings=SETTINGS)))
        for number in range(50):
            facts, view = question(rng)
            out.write(
                write_line(
                    Entry(
                        request=RequestId(f"req-{number}"),
                        attempt=1,
                        at=0.0,
                        question=Question.ROUTE,
                        facts=facts,
                        view=view,
                        decision=choose(facts, view, SETTINGS),
                    )
                )
            )
    return file


def told(log: Path, policy: str = "recorded", *settings: str) -> tuple[bool, str]:
    out = StringIO()
    return replay_log(log, policy, settings, Console(file=out, width=200)), out.getvalue()


def test_a_log_is_reproduced(log: Path) -> None:
    assert told(log) == (True, "50 of 50 decisions came out exactly as recorded\n")


def test_a_log_without_a_decision_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(InvalidRequest, match="holds no decision"):
        told(tmp_path / "empty.jsonl")


def test_a_decision_that_was_tampered_with_is_shown(log: Path) -> None:
    lines = log.read_text().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if '"ttft_s"' in line)
    lines[at] = lines[at].replace('"context_tokens":', '"context_tokens":1', 1)
    log.write_text("".join(lines))
    is_same, text = told(log)
    assert not is_same
    assert text.startswith("49 of 50")


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "recorded"])
def test_another_policy_is_compared(log: Path, policy: str) -> None:
    is_same, text = told(log, policy)
    assert is_same
    assert "of 50 decisions would differ" in text


def test_a_weight_can_be_turned(log: Path) -> None:
    assert "under damage_weight=9: " in told(log, "recorded", "damage_weight=9")[1]


@pytest.mark.parametrize("wrong", [("none-such",), ("recorded", "damage_weight"), ("recorded", "no_such=1")])
def test_what_is_no_policy_and_no_setting_is_refused(log: Path, wrong: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest):
        told(log, *wrong)


def candidate(route: str, source: str = "own", **terms: float) -> cluster_pb2.CandidateCost:
    return cluster_pb2.CandidateCost(
        route=route, cost_s=sum(terms.values()), terms=terms, ttft_s=0.2, itl_s=0.02, cost_source=source
    )


def test_pages_that_are_fetched_are_told() -> None:
    routes = [candidate("local:d1<d0", read=0.1, fetch=0.02), candidate("local:d0", read=0.1, queue=3.0)]
    assert sentences(cluster_pb2.Decision(chosen="local:d1<d0", candidates=routes)) == [
        "d1 reads and writes, with pages fetched from d0: first token expected after 200.0 ms, then 20.0 ms each",
        "fetching the pages is expected to take 20.0 ms; what does not come in time is read",
        f"d0 reads and writes lost by 2980.0 ms: {MEANING['queue']} (queue) would have cost 3000.0 ms more",
    ]


def test_the_choice_is_explained_in_words() -> None:
    decision = cluster_pb2.Decision(
        chosen="p0>d0",
        candidates=[candidate("local:d0", read=0.2, neighbours=0.5), candidate("p0>d0", "peers", read=0.2)],
    )
    assert sentences(decision) == [
        "p0 reads, d0 writes: first token expected after 200.0 ms, then 20.0 ms each",
        "the reader has no timings of its own yet: its peers' were used",
        f"d0 reads and writes lost by 500.0 ms: {MEANING['neighbours']} (neighbours) would have cost 500.0 ms more",
    ]
