"""`python -m services.local` is `baton`."""

import sys

from services.local.cli import app
from services.local.exits import Exit
from services.local.failure import errors
from services.local.streams import mend_streams, mute_output, why_unwritable


def main() -> None:
    """Entry point of the console script."""
    mend_streams()
    try:
        try:
            app(prog_name="baton")
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        mute_output()
        sys.exit(Exit.FAILED)
    except (OSError, BaseExceptionGroup) as error:
        why = why_unwritable(error)
        if not why:
            raise
        mute_output()
        errors.print(f"baton: the output cannot be written: {why}", style="red", highlight=False, soft_wrap=True)
        sys.exit(Exit.FAILED)


if __name__ == "__main__":
    main()
