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

    async def warm(self) -> None:
        """Get ready for the first question, which would have to wait otherwise."""
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

    async def warm(self) -> None:
        return

    async def close(self) -> None:
        return


class ChildInspector:
    """In a child that forks for every question: what ends a fork answers "too complex", and the next question waits for
    nothing. Writer: the event loop.
    """

    def __init__(self) -> None:
        self._verdicts = Verdicts()
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._child: Process | None = None

    async def check(self, constraint: Constraint) -> None:
        why = self._verdicts.find(constraint)
        if why is None:
            why = await self._ask_in_turn(constraint)
            self._verdicts.note(constraint, why)
        if why:
            raise ConstraintTrouble(why)

    async def warm(self) -> None:
        """Whether or not it succeeds: a router without an inspector serves all other requests."""
        async with self._turn:  # bounded: every holder waits with a deadline
            with suppress(TimeoutError, OSError):
                await self._standing()

    async def close(self) -> None:
        async with self._turn:  # bounded: every holder waits with a deadline
            await self._end()

    async def _ask_in_turn(self, constraint: Constraint) -> str:
        if self._waiting >= MAX_WAITING:
            raise Refused(message=f"{MAX_WAITING} constraints wait to be inspected", reason=Reason.LOAD_SHED)
        self._waiting += 1
        try:
            async with self._turn:  # bounded: every holder waits with a deadline
                known = self._verdicts.find(constraint)
                return await self._ask(constraint) if known is None else known
        finally:
            self._waiting -= 1

    async def _ask(self, constraint: Constraint) -> str:
        is_whole = False
        try:
            child = await self._standing()
            asked = {"kind": constraint.kind, "source": constraint.source, "after": constraint.after}
            assert child.stdin is not None
            child.stdin.write(json.dumps(asked).encode() + b"\n")
            why = await _answer(child, WALL_S)
            is_whole = True
        except (TimeoutError, OSError) as error:
            raise Unavailable(message="the constraint could not be inspected: try again") from error
        finally:
            if not is_whole:  # its answer may still come, and would be taken for another question's
                await self._end()
        return "takes too much time or memory to compile" if why is None else why

    async def _standing(self) -> Process:
        """A child that waits for a question. Raises TimeoutError, OSError."""
        if self._child is None or self._child.returncode is not None:
            self._child = await _start()
        return self._child

    async def _end(self) -> None:
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
        await _answer(child, START_S)
        is_ready = True
    finally:
        if not is_ready:
            with suppress(ProcessLookupError):
                child.kill()
    return child


async def _answer(child: Process, timeout_s: float) -> str | None:
    """One line; None where limits were met. Raises TimeoutError, and OSError where the child ended."""
    assert child.stdout is not None
    async with asyncio.timeout(timeout_s):
        line = await child.stdout.readline()
    if not line.endswith(b"\n"):
        raise ChildProcessError("the inspector ended")
    why = json.loads(line)
    return None if why is None else str(why)
