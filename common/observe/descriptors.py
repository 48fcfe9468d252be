"""How many files and connections this process may have open. Shells and container runtimes start with 1,024 and allow
far more to whoever asks.
"""

import resource

WANTED = 1 << 16
"""Chosen: more than any process here can use. Some systems have no limit, and tables as large as the limit."""


def take_descriptors() -> None:
    """Ask for what this process may have. Once, at its start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def num_descriptors() -> int:
    """As many may be open at once."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WANTED if soft == resource.RLIM_INFINITY else soft
