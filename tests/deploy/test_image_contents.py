"""Goal: what an image starts is in it, files and packages. Images cannot be built here.

Method: a folder with what the Dockerfile copies, and a process that finds our rooms there and nowhere else.
"""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.deploy.test_images import lineage

ENTRY = ("common.observe.early", "common.observe.entry")
"""A service's `__main__` imports the rest when it is run."""

PROCESSES = {
    "router": (*ENTRY, "services.router.app", "services.gateway.app", "services.local.__main__"),
    "planner": (*ENTRY, "services.planner.app", "services.planner.actuate_kubernetes"),
    "worker-cpu": (*ENTRY, "common.worker.boot", "services.prefill.app", "services.decode.app"),
    "worker-cuda": (*ENTRY, "common.worker.boot", "services.prefill.app", "services.decode.app"),
}
LOCKS = {
    "packages": "runtime",
    "packages-planner": "planner",
    "packages-cpu": "torch-cpu",
    "packages-cuda": "torch-cuda",
}
OURS = ("protos", "kernels", "common", "services", "clients")
IMPORT = """
import importlib, json, sys
folder, absent, *names = sys.argv[1:]
absent = frozenset(absent.split(","))
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"the image has no {name}", name=name)
sys.path[:] = [folder, *(each for each in sys.path if "/lib/" in each)]
sys.meta_path[:] = [Absent(), *(each for each in sys.meta_path if "editable" not in repr(each))]
for name in names:
    importlib.import_module(name)
print(json.dumps({name: module.__file__ for name, module in sys.modules.items() if getattr(module, "__file__", None)}))
"""


def copied(target: str, into: Path) -> Path:
    """The image's /app, weights apart."""
    into.mkdir()
    for line in lineage(target):
        if line.startswith("COPY ") and "--from" not in line:
            *sources, place = line.split()[1:]
            for source in sources:
                if (ROOT / source).is_dir():
                    skipped = shutil.ignore_patterns("__pycache__", "*.safetensors")
                    shutil.copytree(ROOT / source, into / place, ignore=skipped)
                else:
                    shutil.copy(ROOT / source, into / place)
    return into


def locked(target: str) -> set[str]:
    """Distributions of the target's virtual environment."""
    (stage,) = (match[1] for line in lineage(target) if (match := re.search(r"COPY --from=(\S+) /venv", line)))
    stages = [stage, *(["packages"] if stage != "packages" else [])]
    texts = [(ROOT / f"requirements/{LOCKS[each]}.lock").read_text() for each in stages]
    return {plain(match[1]) for text in texts for match in re.finditer(r"(?m)^([\w.-]+)(?:\[\w+\])?==", text)}


def plain(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def absent(target: str) -> set[str]:
    """Top-level modules of this environment that the image has not."""
    there = locked(target)
    owners = {top: {plain(each) for each in found} for top, found in packages_distributions().items()}
    return {top for top, found in owners.items() if top not in OURS and not there & found}


@pytest.mark.parametrize("target", PROCESSES)
def test_what_an_image_starts_is_in_it(target, tmp_path):
    folder = copied(target, tmp_path / "app")
    missing = absent(target)
    assert ("torch" in missing) == (not target.startswith("worker"))
    command = [sys.executable, "-c", IMPORT, str(folder), ",".join(missing), *PROCESSES[target]]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout).items()
    strays = [name for name, file in found if name.split(".")[0] in OURS and not file.startswith(str(folder))]
    assert not strays, "found elsewhere: the image has them not"
