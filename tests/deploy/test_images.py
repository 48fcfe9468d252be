"""Goal: the Dockerfile is clean, and copies what it says. Images cannot be built here: nothing below runs them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
TARGETS = ("router", "planner", "worker-cpu", "worker-cuda")


def tool(name: str) -> str:
    """A program of this environment."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: make venv")
    return found


def stages() -> dict[str, list[str]]:
    """Instructions by stage, continuation lines joined."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in DOCKERFILE.read_text().replace("\\\n", " ").splitlines():
        if match := re.match(r"FROM \S+ AS (\S+)", line):
            name = match[1]
            found[name] = []
        if line and not line.startswith("#"):
            found[name].append(line)
    return found


def lineage(stage: str) -> list[str]:
    """A stage's instructions with those of the stages it is made from."""
    lines = stages()[stage]
    parent = lines[0].split()[1]
    return [*(lineage(parent) if parent in stages() else []), *lines]


def test_the_linter_has_nothing_to_say():
    lint = subprocess.run(  # noqa: PLW1510 - what it says is shown when it fails
        [tool("hadolint"), "--failure-threshold", "info", str(DOCKERFILE)], capture_output=True, text=True, timeout=60
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_a_user_that_is_not_root_and_gets_its_signals(target):
    lines = lineage(target)
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER 10001:10001"
    assert 'ENTRYPOINT ["python", "-m"]' in lines, "a shell as PID 1 would swallow SIGTERM"
    assert any(line.startswith("HEALTHCHECK") and "/healthz" in line for line in lines)


def test_the_image_of_routers_has_no_torch():
    assert not any("torch" in line for line in lineage("router") if not line.startswith("#"))
    assert "COPY --from=packages /venv /venv" in lineage("router")


def test_the_image_with_triton_has_the_c_compiler_that_triton_calls():
    """triton.runtime.build: what loads a kernel is compiled on the machine that runs it."""
    lines = lineage("worker-cuda")
    assert any("apt-get install" in line and " gcc libc6-dev" in line for line in lines)
    assert "HOME=/tmp" in next(line for line in lines if line.startswith("ENV PATH"))


def test_the_image_with_triton_reads_the_kernels_that_were_compiled_for_it():
    """The folder that a stage fills is the one that the cache of the image reads: kernels/gpu/warm_cache.FOLDER."""
    made, lines = stages()["triton-cache"], lineage("worker-cuda")
    assert any("common.engine.warm_kernels --cache build/triton" in line for line in made)
    assert "COPY --from=triton-cache /app/build/triton build/triton" in lines
    assert any("TRITON_CACHE_MANAGER=kernels.gpu.warm_cache:WarmCache" in line for line in lines)
    configs = re.findall(r"shapes/\S+\.json", " ".join(made))
    assert configs == sorted(f"shapes/{path.name}" for path in (ROOT / "deploy/docker/shapes").iterdir())


def test_every_install_is_checked_by_hash():
    installs = [line for lines in stages().values() for line in lines if "pip install" in line]
    assert installs
    assert all("--require-hashes --no-deps -r requirements/" in line for line in installs)


def test_what_is_copied_is_there_and_not_ignored():
    ignored = (ROOT / "deploy/docker/Dockerfile.dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    for lines in stages().values():
        for line in lines:
            if not line.startswith("COPY ") or "--from" in line:
                continue
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), line
                assert any(source == each or Path(source).match(each) or source.startswith(each) for each in allowed), (
                    line
                )
