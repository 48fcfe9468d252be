"""Generates the committed Python stubs of `baton/v1`, and of the one contract of others that is served.

    python protos/generate.py

The .proto files import each other as `baton/v1/x.proto`, because the module root is `protos/`. The compiler therefore
writes `from baton.v1 import ...`, which is rewritten to `protos.baton.v1`. The result depends on nothing but the .proto
files and the pinned grpcio-tools and mypy-protobuf; a test regenerates it and compares.

grpcio-tools is pinned to the lowest supported version on purpose: stubs refuse to import under a runtime that is older
than the compiler that made them.
"""

import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PACKAGE = Path("baton/v1")
PACKAGES = (PACKAGE, Path("externalscaler"))
PLUGINS = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
STUB_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")

_IMPORT = re.compile(r"^(from|import) (baton\.v1|externalscaler)\b", re.MULTILINE)
# The file's own name in the message that a too old grpcio raises.
_IMPORTED_AS = re.compile(r"generated code in (baton/v1|externalscaler)/")


def compile_protos(destination: Path, package: Path) -> None:
    """Runs the compiler and its plugins; writes `PACKAGE/*_pb2*` below the destination."""
    scripts = Path(sysconfig.get_path("scripts"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={ROOT}"]
    command += [f"--plugin={name}={scripts / name}" for name in PLUGINS]
    command += [f"--python_out={destination}", f"--grpc_python_out={destination}"]
    command += [f"--mypy_out=quiet:{destination}", f"--mypy_grpc_out=quiet:{destination}"]
    command += [str(package / path.name) for path in sorted((ROOT / package).glob("*.proto"))]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)


def declares_service(stub: Path, package: Path) -> bool:
    """Whether the .proto behind a `_pb2_grpc` stub has a service; where not, the compiler wrote an empty stub."""
    source = ROOT / package / f"{stub.name.split('_pb2_grpc')[0]}.proto"
    return re.search(r"^service ", source.read_text(), re.MULTILINE) is not None


def stubs_of(folder: Path) -> Iterator[Path]:
    """The generated files of a folder."""
    return (path for path in sorted(folder.iterdir()) if path.name.endswith(STUB_SUFFIXES))


def rewritten(text: str) -> str:
    """The stub's text with its imports as this repository spells them."""
    text = _IMPORT.sub(r"\1 protos.\2", text)
    return _IMPORTED_AS.sub(r"generated code in protos/\1/", text)


def generate(destination: Path, package: Path = PACKAGE) -> None:
    """Replaces all stubs in the destination folder; stubs of a .proto that is gone go too."""
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="baton-protos-") as scratch:
        compile_protos(Path(scratch), package)
        for stale in list(stubs_of(destination)):
            stale.unlink()
        for stub in stubs_of(Path(scratch) / package):
            if "_pb2_grpc" not in stub.name or declares_service(stub, package):
                (destination / stub.name).write_text(rewritten(stub.read_text()))


def main() -> None:
    """Generates every package beside its .proto files."""
    for package in PACKAGES:
        generate(ROOT / package, package)
        print(f"{len(list(stubs_of(ROOT / package)))} stubs written to {package}")


if __name__ == "__main__":
    main()
