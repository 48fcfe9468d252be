"""The pool of threads inside the native library: native/pool.h."""

from kernels.cpu.library import Native


def set_native_threads(native: Native, count: int) -> None:
    """Compute with `count` threads, the caller included. The old ones end first: never while an operator runs."""
    refused = native.bind("baton_set_threads", "i")(count)
    assert refused == 0, f"{count} threads"


def num_native_threads(native: Native) -> int:
    """How many compute now."""
    return native.bind("baton_num_threads", "")()
