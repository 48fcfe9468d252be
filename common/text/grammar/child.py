"""A process that inspects constraints, one at a time: `python -m common.text.grammar.child`.

A line of JSON in, a line of JSON out. What takes more processor time or memory than it may ends this process, and
nothing else: the system's own timer does it, because nothing can interrupt the grammar engine. Ends with its input.
"""

import json
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


def main() -> None:
    """Until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    compiler = Compiler(byte_vocabulary())
    _say("ready")
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        constraint = Constraint(kind=ConstraintKind(asked["kind"]), source=asked["source"], after=asked["after"])
        why = ""
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        try:
            compiler.walk(constraint)
        except ConstraintTrouble as trouble:
            why = trouble.why
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say(why)


def _say(why: str) -> None:
    sys.stdout.write(json.dumps(why) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
