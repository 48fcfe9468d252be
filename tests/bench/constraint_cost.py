"""What a constraint costs per step: `python -m tests.bench.constraint_cost [--rows 8] [--steps 60] [--bounded 300]`.

One executor on one thread, in this process. The same rows are decoded in turns with and without a JSON schema whose
answers are mostly inside of strings. Given are the times of both, of the quickest twentieth of the steps, because
whatever else runs here can only add to it, and the share that masks add: saying what the step is computes them, running
it applies them, noting what was drawn accepts tokens.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from common.core.clock import SystemClock
from common.core.constraint import Constraint, ConstraintKind
from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.request import TokenSampling
from common.core.step import Sample, Step, StepRow
from common.engine.rule import TokenRule
from common.engine.torch_executor import TorchExecutor
from common.kv.torch_storage import TorchStorage
from common.model.load import load_model
from common.text.grammar.compiler import Compiler
from common.text.grammar.vocabulary import model_vocabulary
from common.text.tokenizer import Tokenizer
from tests.cluster.load import percentile

CLOCK = SystemClock()
QUICK = 0.05
PAGE = 16
PROMPT = 64
FIELDS = ("title", "body", "note", "end")


def schema(text: dict[str, object]) -> str:
    """An object of texts."""
    fields = dict.fromkeys(FIELDS, text)
    return json.dumps({"type": "object", "properties": fields, "required": FIELDS, "additionalProperties": False})


@dataclass(slots=True)
class Line:
    """One sequence that is written."""

    name: str
    pages: list[PageId]
    tokens: list[TokenId]
    make_rule: Callable[[], TokenRule] | None = None
    rule: TokenRule | None = None
    num_computed: int = 0

    def row(self) -> StepRow:
        mask = self.rule.mask() if self.rule is not None else b""
        sample = Sample(seed=7, position=len(self.tokens), sampling=TokenSampling(temperature=0.8), mask=mask)
        return StepRow(
            sequence=SequenceId(RequestId(self.name)),
            tokens=tuple(self.tokens[self.num_computed :]),
            start=self.num_computed,
            pages=tuple(self.pages[: -(-len(self.tokens) // PAGE)]),
            samples=(sample,),
        )

    def note(self, token: TokenId) -> None:
        self.num_computed = len(self.tokens)
        self.tokens.append(token)
        if self.rule is not None and (not self.rule.accept(token) or self.rule.is_over):
            assert self.make_rule is not None
            self.rule = self.make_rule()


@dataclass(slots=True)
class Times:
    """Seconds of each step: to say what it is, to run it, to note what was drawn."""

    plan: list[float] = field(default_factory=list)
    run: list[float] = field(default_factory=list)
    note: list[float] = field(default_factory=list)

    def step(self, executor: TorchExecutor, lines: list[Line]) -> None:
        began = CLOCK.monotonic()
        step = Step(rows=tuple(line.row() for line in lines))
        planned = CLOCK.monotonic()
        result = executor.run(step)
        ran = CLOCK.monotonic()
        for line, drawn in zip(lines, result.drawn, strict=True):
            line.note(drawn[0])
        self.plan.append(planned - began)
        self.run.append(ran - planned)
        self.note.append(CLOCK.monotonic() - ran)

    @property
    def whole(self) -> float:
        return percentile([sum(each) for each in zip(self.plan, self.run, self.note, strict=True)], QUICK)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=Path("models/demo"))
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--bounded", type=int, default=0, help="characters of a text at most")
    arguments = parser.parse_args()
    model = load_model(arguments.model, dtype="float32")
    spec = model.decoder.spec
    per_line = -(-(PROMPT + 2 * arguments.steps + 8) // PAGE)
    storage = TorchStorage(
        spec.page_layout(page_size=PAGE, dtype="float32", model_digest=b""), 2 * arguments.rows * per_line
    )
    executor = TorchExecutor(model.decoder, storage, clock=CLOCK, num_threads=1)
    tokenizer = Tokenizer.load(arguments.model)
    compiler = Compiler(model_vocabulary(tokenizer, vocab_size=spec.vocab_size, eos_ids=(TokenId(1),)))
    text: dict[str, object] = {"type": "string"}
    if arguments.bounded:  # each length is a state of its own to the grammar engine: the costly kind
        text["maxLength"] = arguments.bounded
    constraint = Constraint(kind=ConstraintKind.JSON_SCHEMA, source=schema(text))

    def lines(name: str, first: int, make_rule: Callable[[], TokenRule] | None) -> list[Line]:
        made = []
        for number in range(arguments.rows):
            begin = (first + number) * per_line
            tokens = [TokenId(10 + (number * 37 + index) % 1000) for index in range(PROMPT)]
            pages = [PageId(page) for page in range(begin, begin + per_line)]
            rule = make_rule() if make_rule else None
            made.append(Line(name=f"{name}{number}", pages=pages, tokens=tokens, make_rule=make_rule, rule=rule))
        return made

    free, ruled = lines("free", 0, None), lines("ruled", arguments.rows, lambda: compiler.rule(constraint))
    times = {"free": Times(), "ruled": Times()}
    for _ in range(arguments.steps):
        times["free"].step(executor, free)
        times["ruled"].step(executor, ruled)
    for each in times.values():  # the prompt's step
        del each.plan[:3], each.run[:3], each.note[:3]
    for name, each in times.items():
        parts = ", ".join(
            f"{part} {percentile(getattr(each, part), QUICK) * 1e6:.0f}" for part in ("plan", "run", "note")
        )
        print(f"{name}: {each.whole * 1e6:.0f} us a step ({parts})")
    print(f"a constraint adds {100 * (times['ruled'].whole / times['free'].whole - 1):.1f} %")


if __name__ == "__main__":
    main()
