"""The door to the process environment: nobody else reads or copies os.environ."""

import os
from collections.abc import Mapping


def environment() -> Mapping[str, str]:
    """A copy of this process's environment, taken now."""
    return dict(os.environ)


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child process: this one's, with `extra` on top."""
    return {**os.environ, **extra}
