"""The certificate that commands show to a cluster with TLS: a folder as Kubernetes mounts a Secret of it."""

from pathlib import Path
from typing import Annotated

import typer

from common.config.environment import put
from services.local.version import show_version

FILES = {"CERT": "tls.crt", "KEY": "tls.key", "CA": "ca.crt"}


def show_certificate(
    tls: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="For a cluster with TLS: tls.crt, tls.key, ca.crt.", show_default=False),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its name, as certificates have it.", show_default=False)
    ] = None,
    is_asked: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Before every command; they stand for BATON_CLUSTER__TLS_... and BATON_CLUSTER__NAME, also of child processes."""
    if tls is not None:
        put({f"BATON_CLUSTER__TLS_{part}_FILE": str(tls.resolve() / name) for part, name in FILES.items()})
    if cluster is not None:
        put({"BATON_CLUSTER__NAME": cluster})
