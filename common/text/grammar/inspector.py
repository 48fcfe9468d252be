"""Whether a constraint can be compiled and satisfied, asked before a request is admitted.

Two ways: in a child process with limits (production), or here and now (virtual time, where there are no processes).
"""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import OrderedDict
from contextlib import suppress
from hashlib import blake2b
from typing import Protocol

from common.core.constraint import Constraint
from common.core.errors import Reason, Refused, Unavailable
from common.text.grammar.compiler import Compiler
from common.text.grammar.trouble import ConstraintTrouble
from common.text.grammar.vocabulary import byte_vocabulary

START_S = 10.0
"""Deadline of a child's first word: on a machine that is busy, reading the interpreter takes seconds."""

WALL_S = 2.0
"""Deadline of one answer; the child's own limit is processor time, ten times less."""

END_S = 0.5
"""How long a child may take to end with its input, before it is killed."""

MAX_WAITING = 16
"""Chosen: an inspection takes a few milliseconds, so that a longer queue means an attack."""

MAX_VERDICTS = 4096
"""Chosen: half a megabyte of hashes and short sentences."""


class Inspector(Protocol):
    """Asked on the event loop."""

    async def check(self, constraint: Constraint) -> None:
        """Raises ConstraintTrouble; Refused or Unavailable where it could not be told."""
        ...

    async def close(self) -> None: ...


class Verdicts:
    """What was found out, the latest kept. Bounded."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, str] = OrderedDict()

    def find(self, constraint: Constraint) -> str | None:
        """Why not; empty: nothing is wrong; None: not known."""
        key = _key(constraint)
        why = self._known.get(key)
        if why is not None:
            self._known.move_to_end(key)
        return why

    def note(self, constraint: Constraint, why: str) -> None:
        self._known[_key(constraint)] = why
        if len(self._known) > MAX_VERDICTS:
            self._known.popitem(last=False)


def _key(constraint: Constraint) -> bytes:
    parts = json.dumps([constraint.kind, constraint.source, constraint.after])
    return blake2b(parts.encode(), digest_size=16).digest()


class InlineInspector:
    """In this thread, without limits but the engine's own."""

    def __init__(self) -> None:
        self._compiler: Compiler | None = None

    async def check(self, constraint: Constraint) -> None:
        if self._compiler is None:
            self._compiler = Compiler(byte_vocabulary())
        self._compiler.walk(constraint)

    async def close(self) -> None:
        return


class ChildInspector:
    """In a child that is started at the first question, and again after one that ended it. Writer: the event loop."""

    def __init__(self) -> None:
        self._verdicts = Verdicts()
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._child: Process | None = None
        self._next: asyncio.Task[Process] | None = None

    async def check(self, constraint: Constraint) -> None:
        why = self._verdicts.find(constraint)
        if why is None:
            why = await self._ask_in_turn(constraint)
            self._verdicts.note(constraint, why)
        if why:
            raise ConstraintTrouble(why)

    async def close(self) -> None:
        async with self._turn:  # bounded: every holder waits with a deadline
            if self._next is not None:
                with suppress(TimeoutError, OSError):
                    self._child = await self._next
                self._next = None
            await self._end()

    async def _ask_in_turn(self, constraint: Constraint) -> str:
        if self._waiting >= MAX_WAITING:
            raise Refused(message=f"{MAX_WAITING} constraints wait to be inspected", reason=Reason.LOAD_SHED)
        self._waiting += 1
        try:
            async with self._turn:  # bounded: every holder waits with a deadline
                return self._verdicts.find(constraint) or await self._ask(constraint)
        finally:
            self._waiting -= 1

    async def _ask(self, constraint: Constraint) -> str:
        """The child's answer. A child that dies over a question answers it: too complex."""
        is_whole = False
        try:
            child = await self._standing()
            asked = {"kind": constraint.kind, "source": constraint.source, "after": constraint.after}
            assert child.stdin is not None
            child.stdin.write(json.dumps(asked).encode() + b"\n")
            why = await _answer(child, WALL_S)
            is_whole = why is not None
            return "takes too much time or memory to compile" if why is None else why
        except (TimeoutError, OSError) as error:
            raise Unavailable(message="the constraint could not be inspected: try again") from error
        finally:
            if not is_whole:
                await self._end()
                self._next = asyncio.create_task(_start(), name="inspector")  # the next question need not wait for it

    async def _standing(self) -> Process:
        """A child that waits for a question. Raises TimeoutError, OSError."""
        if self._child is None or self._child.returncode is not None:
            coming, self._next = self._next or asyncio.create_task(_start(), name="inspector"), None
            self._child = await coming
        return self._child

    async def _end(self) -> None:
        """One that its limits end needs a moment; a signal in that moment would take its status from the loop."""
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        child.stdin.close()
        try:
            async with asyncio.timeout(END_S):
                await child.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()  # bounded: it was killed


async def _start() -> Process:
    """A new child, ready for its first question. Raises TimeoutError, OSError."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "common.text.grammar.child", stdin=PIPE, stdout=PIPE, stderr=DEVNULL
    )
    is_ready = False
    try:
        is_ready = await _answer(child, START_S) is not None
    finally:
        if not is_ready:
            with suppress(ProcessLookupError):
                child.kill()
    if not is_ready:
        raise ChildProcessError("the inspector did not start")
    return child


async def _answer(child: Process, timeout_s: float) -> str | None:
    """One line, or None where the child ended. Raises TimeoutError."""
    assert child.stdout is not None
    async with asyncio.timeout(timeout_s):
        line = await child.stdout.readline()
    return str(json.loads(line)) if line.endswith(b"\n") else None
