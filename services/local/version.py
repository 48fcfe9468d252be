"""`baton --version`."""

from importlib.metadata import version

import typer


def show_version(is_asked: bool) -> None:
    """And end."""
    if is_asked:
        typer.echo(f"baton {version('baton')}")
        raise typer.Exit
