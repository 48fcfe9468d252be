"""A relative path means what it means to the person who gives it, whichever way it was given."""

from pathlib import Path

from common.config.loader import load
from services.local.anchor import anchored
from services.local.topology import Overrides


def test_paths_of_flags_files_and_environment_begin_where_the_person_is(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text('[cluster]\nsecret_file = "keys/secret"\n')
    given = Overrides(file=file, settings=("router.decision_log=decisions",))
    config = load(file, {"BATON_MODEL__PATH": "../llama"}, given.settings)
    moved = anchored(given, config, tmp_path / "here")
    after = load(file, {"BATON_MODEL__PATH": "../llama"}, moved.settings)
    assert after.router.decision_log == str(tmp_path / "here" / "decisions")
    assert after.cluster.secret_file == str(tmp_path / "here" / "keys" / "secret")
    assert after.model.path == str(tmp_path / "llama")


def test_defaults_and_absolute_paths_stay_as_they_are(tmp_path: Path) -> None:
    given = Overrides(settings=("local.run_dir=/var/tmp/baton", "local.decode=2"))
    assert anchored(given, load(None, {}, given.settings), tmp_path) == given
