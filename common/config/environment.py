"""The door to the process environment: nobody else reads or copies os.environ."""

import os
from collections.abc import Mapping


def environment() -> Mapping[str, str]:
    """A copy of this process's environment, taken now."""
    return dict(os.environ)


def set_defaults(values: Mapping[str, str]) -> None:
    """For libraries that read the environment and nothing else. What is set already stays."""
    for name, value in values.items():
        os.environ.setdefault(name, value)


def put(values: Mapping[str, str]) -> None:
    """For flags that stand for values of the configuration: they win over what was set, here and in children."""
    os.environ.update(values)


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child process: this one's, with `extra` on top."""
    return {**os.environ, **extra}
