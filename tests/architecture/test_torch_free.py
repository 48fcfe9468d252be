"""The router, the gateway and the command line start where torch is not installed; the former without numpy, too."""

import json
import subprocess
import sys
from pathlib import PurePosixPath

from tests.architecture.rules import TORCH_FREE
from tests.architecture.source import ROOT, module_of, sources
from tests.architecture.test_doors import is_open

HEAVY = ("torch", "triton", "transformers")

# Every module is imported in its own order in one process; a finder makes the heavy ones look as if not installed.
IMPORT_ALL = """
import importlib, json, sys

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {heavy}:
            raise ModuleNotFoundError(f"{{name}} is not installed on this machine", name=name)

sys.meta_path.insert(0, Absent)
failures = {{}}
for name in json.load(sys.stdin):
    try:
        importlib.import_module(name)
    except ImportError as error:
        failures[name] = str(error)
print(json.dumps(failures))
"""


def torch_free_modules() -> list[str]:
    """Modules of the torch-free rooms, doors of torch and `__main__` (which may run at import) left out."""
    folders = [room.replace(".", "/") for room in TORCH_FREE]
    paths = [source.path for source in sources(*folders)]
    return [module_of(path) for path in paths if not is_open(path, "torch") and path.name != "__main__.py"]


def failures_without(heavy: tuple[str, ...], modules: list[str]) -> dict[str, str]:
    """What each module that cannot be imported without them says."""
    command = [sys.executable, "-c", IMPORT_ALL.format(heavy=heavy)]
    names = json.dumps(modules)
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60, input=names)
    assert result.returncode == 0, result.stderr
    found: dict[str, str] = json.loads(result.stdout)
    return found


def test_torch_free_rooms_import_without_torch():
    assert failures_without(HEAVY, torch_free_modules()) == {}


def test_processes_that_hold_no_page_bytes_start_without_numpy():
    """It takes 0.2 s of a processor, an eighth of a router's start, and 20 MB."""
    assert failures_without(("numpy",), [f"services.{name}.app" for name in ("router", "gateway", "planner")]) == {}


def test_the_torch_tensor_store_is_not_among_them():
    assert is_open(PurePosixPath("common/kv/torch_storage.py"), "torch")
    assert "common.kv.torch_storage" not in torch_free_modules()
