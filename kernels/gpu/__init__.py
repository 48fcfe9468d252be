"""Operators on CUDA tensors, in Triton: one per file, beside the public operator that calls it.

Lives here: kernels and what launches them; `dialect.py`, what every kernel is written with; `tuned.py`, how large tiles
are on which device (made offline, never while serving); `aot.py`, which compiles everything without a GPU.
May not: choose sizes by trying, read a tensor's values on the host, import anything but torch and triton.
Who may call: the operators one floor up, which come here for CUDA tensors only. Nothing else imports this room, so a
machine without triton serves on its CPU.

Conventions. A wrapper asserts shapes and strides, allocates what it returns, launches on the current stream and never
synchronises. Offsets into pages are 64 bits; a 32-bit one has an assertion in its wrapper that says why it is small.
Numbers that change between steps are not specialised (`do_not_specialize`), or each would compile anew.
Every kernel is in `aot.SPECIMENS` in the shapes it serves, and is tested in the interpreter against the oracle.
"""
