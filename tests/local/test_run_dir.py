"""Goal: the folder and the secret of a cluster are for its owner alone, and go when they should."""

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from common.config.config import Config
from common.config.loader import load
from common.core.entropy import SeededEntropy
from common.core.errors import StartupError
from services.local.run_dir import RunDir
from services.local.topology import Kind, Overrides, service_specs


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def config(*settings: str) -> Config:
    return load(settings=settings)


def make(*settings: str, seed: int = 1) -> RunDir:
    """Made, and given back."""
    with RunDir.taken(config(*settings), SeededEntropy(seed)) as made:
        return made


def test_a_folder_of_our_own_goes_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = make()
    assert made.path.parent == tmp_path
    assert made.fleeting == made.path
    assert mode(made.path) == 0o700
    assert mode(made.secret_file) == 0o600
    assert len(bytes.fromhex(made.secret_file.read_text())) == 32


def test_of_a_given_folder_only_the_secret_goes_and_an_older_one_is_replaced(tmp_path: Path) -> None:
    old = tmp_path / "run" / "secret"
    old.parent.mkdir()
    old.write_text("readable by all")
    old.chmod(0o644)
    made = make(f"local.run_dir={tmp_path / 'run'}")
    assert made.fleeting == made.secret_file == old
    assert mode(old) == 0o600
    assert "readable" not in old.read_text()


def test_a_given_secret_is_used_and_kept(tmp_path: Path) -> None:
    given = tmp_path / "mine"
    given.write_text("0123456789abcdef0123456789abcdef")
    made = make(f"cluster.secret_file={given}", f"local.run_dir={tmp_path / 'run'}")
    assert made.secret_file == given
    assert made.fleeting is None
    assert not (made.path / "secret").exists()


def test_two_clusters_have_two_secrets(tmp_path: Path) -> None:
    first, second = (make(f"local.run_dir={tmp_path / str(seed)}", seed=seed) for seed in (1, 2))
    assert first.secret_file.read_text() != second.secret_file.read_text()


def test_what_was_cleaned_away_amid_the_run_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = make()
    secret = made.secret_file.read_text()
    shutil.rmtree(made.path)
    made.mend()
    assert (made.secret_file.read_text(), mode(made.secret_file), mode(made.path)) == (secret, 0o600, 0o700)
    made.secret_file.unlink()
    made.mend()
    assert made.secret_file.read_text() == secret
    assert secret.strip() not in repr(made)


def test_the_secret_is_not_told_to_whoever_took_the_folders_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(f"local.run_dir={tmp_path / 'run'}")
    made.secret_file.unlink()
    monkeypatch.setattr("os.geteuid", lambda: made.path.stat().st_uid + 1)
    with pytest.raises(PermissionError, match="somebody else's"):
        made.mend()
    assert not made.secret_file.exists()


def test_a_secret_of_the_operators_is_not_made_again(tmp_path: Path) -> None:
    given = tmp_path / "mine"
    given.write_text("0123456789abcdef0123456789abcdef")
    made = make(f"cluster.secret_file={given}", f"local.run_dir={tmp_path / 'run'}")
    given.unlink()
    made.mend()
    assert not given.exists()


def test_a_folder_is_one_clusters_at_a_time(tmp_path: Path) -> None:
    """The second would write another secret: no process of the first could be started again."""
    settings = f"local.run_dir={tmp_path / 'run'}"
    with RunDir.taken(config(settings), SeededEntropy(1)) as first:
        secret = first.secret_file.read_text()
        with pytest.raises(StartupError, match="belongs to a cluster that runs"):
            make(settings, seed=2)
        assert first.secret_file.read_text() == secret
    assert make(settings, seed=2).secret_file.read_text() != secret


def test_a_secret_for_which_there_is_no_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StartupError, match="run/secret cannot be written: No space left"):
        make(f"local.run_dir={tmp_path / 'run'}")
    assert not (tmp_path / "run" / "secret").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"local\.run_dir .*/file/run cannot be made"):
        make(f"local.run_dir={tmp_path / 'file' / 'run'}")


def test_every_process_logs_in_by_its_role_and_only_routers_get_a_port() -> None:
    specs = service_specs(
        config("local.prefill=2", "local.routers=2", "listen.port=9000"),
        Overrides(settings=("listen.port=9000", "cluster.redis_login=url")),
        redis_url="redis://127.0.0.1:1/0",
        secret_file=Path("/run/secret"),
        router_ports=(7450, 7451),
    )
    assert [spec.name for spec in specs] == ["prefill-0", "prefill-1", "decode-0", "router-0", "router-1"]
    for spec in specs:
        last = dict(word.split("=", 1) for word in spec.command if "=" in word)  # --set: the last one wins
        assert last["cluster.redis_login"] == "role"
        assert last["cluster.secret_file"] == "/run/secret"
        assert last["listen.metrics_port"] == "0"
        expected = {"router-0": "7450", "router-1": "7451"}.get(spec.name, "0")
        assert last["listen.port"] == expected
        assert spec.kind is Kind(spec.name.partition("-")[0])
