"""`python -m services.local` is `baton`."""

from services.local.cli import app


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="baton")


if __name__ == "__main__":
    main()
