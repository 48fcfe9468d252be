"""Goal: a cluster that does not start, or is ended by force, leaves nothing and says why."""

import signal
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from services.local.ports import FIRST_GATEWAY_PORT, free_port
from tests.local.shell import up

pytestmark = [pytest.mark.cluster, pytest.mark.calm]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tmp"
    made.mkdir()
    return made


def test_a_taken_port_is_replaced_and_sigkill_of_the_supervisor_leaves_nothing(folder: Path) -> None:
    with socket.socket() as taken, socket.socket() as usual:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with suppress(OSError):  # somebody has it already, which is as good
            usual.bind(("127.0.0.1", FIRST_GATEWAY_PORT))
            usual.listen()
        port = taken.getsockname()[1]
        with up(folder, "--port", str(port)) as running:
            assert running.wait_line("is taken").startswith(f"port {port} is taken")
            assert "use http://127.0.0.1:" in running.wait_line(f"port {FIRST_GATEWAY_PORT} is taken")
            running.wait_line("Ctrl-C")
            assert running.end(signal.SIGKILL) == -signal.SIGKILL
            running.check_nothing_is_left()


def test_what_a_router_refuses_is_said_once_and_exits_with_78(folder: Path) -> None:
    with up(folder, "--set", "listen.host=0.0.0.0", "--port", str(free_port())) as running:
        status = running.process.wait(timeout=90)
        output = running.process.communicate()[0]
    assert status == 78
    assert "cannot start: refusing to listen on 0.0.0.0 without TLS" in output
    assert "restarting" not in output


@pytest.mark.parametrize("moment", ["valkey    ready", "prefill-0 loading"])
def test_sigkill_while_models_load_leaves_nothing(folder: Path, moment: str) -> None:
    with up(folder, "--port", str(free_port())) as running:
        running.wait_line(moment)
        running.end(signal.SIGKILL)
        running.check_nothing_is_left()


def test_ctrl_c_while_models_load_stops_at_once(folder: Path) -> None:
    with up(folder, "--port", str(free_port())) as running:
        running.wait_line("prefill-0 loading")
        assert running.end(signal.SIGINT) == 130
        assert running.lines[-1] == "stopped: nothing is left running"
        running.check_nothing_is_left()


def test_a_folder_without_a_model_is_named_and_exits_with_78(folder: Path, tmp_path: Path) -> None:
    with up(folder, "--model", "../nothing", "--port", str(free_port())) as running:
        status = running.process.wait(timeout=90)
        output = running.process.communicate()[0]
    assert status == 78
    assert f"model folder {tmp_path / 'nothing'} does not exist" in " ".join(output.split())
    assert "Traceback" not in output
    assert list(folder.iterdir()) == []
