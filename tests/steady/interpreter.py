"""Triton's interpreter, without the half of its time that it spends on making its language what it is already.

It replaces the language's functions by its own when a kernel is launched, and again for every function that a program
calls; only the former is undone. Once for each module and launch is enough.
"""

import sys
from types import FunctionType, ModuleType
from typing import Any

_INTERPRETER = "triton.runtime.interpreter"


def patch_once() -> None:
    """For this process, where kernels are interpreted in it."""
    interpreter = sys.modules.get(_INTERPRETER)
    if interpreter is not None and interpreter._patch_lang.__module__ == _INTERPRETER:
        _patch(interpreter)


def _patch(interpreter: ModuleType) -> None:
    patch, launch = interpreter._patch_lang, interpreter.GridExecutor.__call__
    patched: set[str] = set()

    def launch_patching_anew(executor: object, *arguments: Any, **constants: Any) -> None:
        patched.clear()
        launch(executor, *arguments, **constants)

    def patch_unless_patched(function: FunctionType) -> Any:
        """What undoes it, which only a launch asks for: it is the first of its module."""
        if function.__module__ in patched:
            return None
        patched.add(function.__module__)
        return patch(function)

    interpreter.GridExecutor.__call__ = launch_patching_anew
    interpreter._patch_lang = patch_unless_patched
