"""A process that inspects constraints: `python -m common.text.grammar.child`. A line of JSON in, a line of JSON out.

Each question is answered by a fork of this process, which has all it needs in memory. One that takes more processor
time or memory than it may ends, and nothing else: the system's own timer does it, because nothing can interrupt the
grammar engine. The next question finds another fork, two milliseconds later. Ends with its input.
"""

import json
import os
import resource
import signal
import sys

from common.core.constraint import Constraint, ConstraintKind
from common.text.grammar.compiler import Compiler
from common.text.grammar.trouble import ConstraintTrouble
from common.text.grammar.vocabulary import byte_vocabulary

CPU_S = 0.15
"""Of one question. Chosen: twenty times a large schema's need, and an answer within 300 ms on a machine with room."""
MAX_MEMORY_BYTES = 512 << 20
"""Of address space. Chosen: the interpreter and the engine reserve a third of it."""
MAX_WHY_CHARS = 500
"""So that an answer is written whole or not at all."""


def main() -> None:
    """Until the input ends. The answer is an empty text where nothing is wrong, and null where limits were met."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    compiler = Compiler(byte_vocabulary())
    compiler.walk(Constraint(kind=ConstraintKind.CHOICE, source='["a"]'))  # what the first use would load
    _say("ready")
    for line in sys.stdin.buffer:
        fork = os.fork()
        if fork == 0:
            _inspect(compiler, line)
        _pid, status = os.waitpid(fork, 0)
        if status:
            _say(None)


def _inspect(compiler: Compiler, line: bytes) -> None:
    """In the fork, which ends here."""
    status = 1
    try:
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        asked = json.loads(line)
        constraint = Constraint(kind=ConstraintKind(asked["kind"]), source=asked["source"], after=asked["after"])
        why = ""
        try:
            compiler.walk(constraint)
        except ConstraintTrouble as trouble:
            why = trouble.why
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say(why[:MAX_WHY_CHARS])
        status = 0
    finally:
        os._exit(status)


def _say(why: str | None) -> None:
    os.write(1, json.dumps(why).encode() + b"\n")


if __name__ == "__main__":
    main()
