"""Goal: a process starts with exactly what the operator asked for, or says which key is wrong."""

from pathlib import Path

import pytest

from common.config.loader import load
from common.config.schema import KEYS, Kind, Value
from common.core.errors import StartupError


def write(folder: Path, text: str) -> Path:
    path = folder / "baton.toml"
    path.write_text(text)
    return path


def test_without_any_source_every_value_is_its_default() -> None:
    config = load()
    for key in KEYS.values():
        assert getattr(getattr(config, key.section), key.name) == key.default
        assert config.origin(key.path) == "default"


def test_set_beats_environment_beats_file(tmp_path: Path) -> None:
    file = write(tmp_path, "[engine]\npage_size = 8\nchunk_tokens = 64\nmax_sequences = 3\n")
    environment = {"BATON_ENGINE__PAGE_SIZE": "32", "BATON_ENGINE__CHUNK_TOKENS": "128", "PATH": "/bin"}
    config = load(file, environment, ["engine.page_size=64"])
    assert (config.engine.page_size, config.engine.chunk_tokens, config.engine.max_sequences) == (64, 128, 3)
    assert config.origin("engine.page_size") == "--set"
    assert config.origin("engine.chunk_tokens") == "environment BATON_ENGINE__CHUNK_TOKENS"
    assert config.origin("engine.max_sequences") == "file baton.toml"


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert load(write(tmp_path, "\ufeff[engine]\r\npage_size = 8\r\n")).engine.page_size == 8


@pytest.mark.parametrize("path", list(KEYS))
def test_every_knob_can_be_turned(path: str) -> None:
    key = KEYS[path]
    wanted: Value
    match key.kind:
        case Kind.BOOLEAN:
            text, wanted = ("false", False) if key.default else ("true", True)
        case Kind.TEXT:
            other = [choice for choice in key.knob.choices if choice != key.default]
            url = "http://other:1" if key.knob.unit == "url" else "other"
            url = "unix:///tmp/other.sock" if key.knob.is_secret else url
            text = wanted = other[0] if other else url
        case _:
            assert key.knob.minimum is not None, "a number needs a border"
            number = key.default if isinstance(key.default, int | float) else key.knob.minimum
            wanted = number + 1 if key.knob.maximum is None or number + 1 <= key.knob.maximum else number / 2
            text = str(wanted)
    config = load(settings=[f"{path}={text}"])
    assert getattr(getattr(config, key.section), key.name) == wanted
    assert config.origin(path) == "--set"


@pytest.mark.parametrize("path", list(KEYS))
def test_every_knob_has_owner_and_reason_and_numbers_have_borders(path: str) -> None:
    key = KEYS[path]
    assert "/" in key.knob.owner
    assert len(key.knob.reason) > 10
    if key.kind in (Kind.INTEGER, Kind.NUMBER):
        assert key.knob.minimum is not None
        assert key.knob.unit or "port" in key.name


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[engine]\npage_sise = 16", "unknown key engine.page_sise: did you mean engine.page_size?"),
        ("[nowhere]\nzzzzzz = 16", "the sections are cluster, listen"),
        ("[local]\nqqqqqqqqqqqq = 16", "section local has prefill, decode"),
        ("engine = 3", "engine is a section: write [engine], and its keys below"),
        ("[gateway]\nport = 8001", "unknown key gateway.port: did you mean listen.port or metrics_api.port?"),
        ("[listen]\nrouters = 2", "did you mean gateway.routers or local.routers?"),
        ("[engine]\npage_size = true", "engine.page_size: expected a whole number, got bool"),
        ("[engine]\npage_size = 16.0", "engine.page_size: expected a whole number, got float"),
        ("[engine]\npage_size = '16'", "engine.page_size: expected a whole number, got str"),
        ("[engine]\npage_size = 0", "engine.page_size: 0 is below the minimum 1 (tokens per page)"),
        ("[engine]\nitl_budget_ms = nan", "engine.itl_budget_ms: nan is not a finite number"),
        ("[engine]\nitl_budget_ms = inf", "engine.itl_budget_ms: inf is not a finite number"),
        ("[listen]\nport = 70000", "listen.port: 70000 is above the maximum 65535"),
        ("[model]\ndtype = 'int8'", "model.dtype: 'int8' is not one of auto, float32"),
        ("[model]\nverify_manifest = 1", "model.verify_manifest: expected true or false, got int"),
        ("[cluster]\nname = 'Not OK'", "cluster.name: 'Not OK' does not match"),
        ("[cluster]\nname = ['a']", "cluster.name: expected text, got list"),
        ("[liveness]\nlease_s = 0.6", "below twice liveness.heartbeat_s"),
        ("[engine]\nchunk_tokens = 1024", "exceeds engine.max_batch_tokens"),
        ("[", "is not valid TOML"),
    ],
)
def test_a_bad_file_is_refused_with_the_key_path(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(StartupError) as caught:
        load(write(tmp_path, text))
    assert complaint in caught.value.message


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("engine.page_size=1e2", "expected a whole number, got '1e2'"),
        ("engine.page_size=nan", "expected a whole number, got 'nan'"),
        ("engine.itl_budget_ms=nan", "not a finite number"),
        ("engine.itl_budget_ms=quick", "expected a number, got 'quick'"),
        ("model.verify_manifest=yes", "expected true or false, got 'yes'"),
        ("engine.page_size", "write section.key=value"),
        ("engine.page_size=none", "expected a whole number, got 'none'"),
        ("engine.pagesize=1", "did you mean engine.page_size?"),
        ("engine.page_size=" + "9" * 5000, "expected a whole number"),
    ],
)
def test_a_bad_setting_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(StartupError) as caught:
        load(settings=[text])
    assert complaint in caught.value.message


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    file = write(tmp_path, "[engine]\npage_sise = 16\nmax_sequences = -1\n")
    with pytest.raises(StartupError) as caught:
        load(file, {"BATON_LISTEN__PROT": "1"}, ["nothing"])
    for fragment in ("engine.page_sise", "engine.max_sequences", "listen.prot", "--set nothing"):
        assert fragment in caught.value.message
    assert caught.value.facts["problems"] == "4"


def test_a_single_underscore_in_a_variable_is_pointed_out_and_foreign_ones_are_left_alone() -> None:
    assert load(environment={"BATON_TEST_SEED": "1"}) == load()
    with pytest.raises(StartupError) as caught:
        load(environment={"BATON_ENGINE_PAGE_SIZE": "1"})
    assert "write BATON_ENGINE__PAGE_SIZE" in caught.value.message


def test_a_missing_or_huge_file_stops_the_process(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="cannot be read"):
        load(tmp_path / "absent.toml")
    with pytest.raises(StartupError, match="larger than"):
        load(write(tmp_path, "#" * 1_100_000))


def test_an_optional_number_can_be_given_back_to_the_machine(tmp_path: Path) -> None:
    file = write(tmp_path, "[engine]\nnum_pages = 100\n")
    assert load(file).engine.num_pages == 100
    assert load(file, {}, ["engine.num_pages=none"]).engine.num_pages is None


def test_a_bad_secret_is_not_repeated_in_the_complaint() -> None:
    with pytest.raises(StartupError) as caught:
        load(settings=["cluster.redis_url=hunter2"])
    assert "hunter2" not in caught.value.message
