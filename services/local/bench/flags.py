"""The flags that every measurement takes: said once, and handed to each command as its `wish`."""

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from services.local.bench.bench import Wish
from services.local.flags import ConfigFile, Settings

Model = Annotated[Path | None, typer.Option(help="Hugging Face folder; without it, the demo model.")]
SharedModel = Annotated[Path, typer.Option(help="Hugging Face folder that everybody serves.")]
Rounds = Annotated[int, typer.Option(min=1, max=100, help="Samples of each workload, order alternating.")]
Attempts = Annotated[
    int, typer.Option(min=1, max=20, help="Of a sample while others use the machine; 1 waits for nobody.")
]
Seed = Annotated[int, typer.Option(help="Of the random prompts.")]
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Append every sample as a JSON line.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw medians and ranges as PNG.")]


def measured(
    *, rounds: int = 3, attempts: int = 3, is_shared: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """For a command that begins with a Wish: on the command line these flags stand in its place, around its own.

    `is_shared`: others serve the model, too, so it has to be named.
    """

    def gather(command: Callable[..., None]) -> Callable[..., None]:
        own = [_flag(each.name, each.annotation, each.default) for each in signature(command).parameters.values()][1:]
        model = _flag("model", SharedModel) if is_shared else _flag("model", Model, None)
        flags = [model, *own, *_common(rounds, attempts)]

        def ask(**given: Any) -> None:
            wish = Wish(
                model=given["model"],
                config=given["config"],
                settings=tuple(given["set_"] or ()),
                rounds=given["rounds"],
                attempts=given["attempts"],
                seed=given["seed"],
                out=given["out"],
                plot=given["plot"],
            )
            command(wish, **{flag.name: given[flag.name] for flag in own})

        ask.__name__, ask.__doc__ = command.__name__, command.__doc__
        ask.__signature__ = Signature(flags)  # type: ignore[attr-defined]  # what typer makes its options of
        ask.__annotations__ = {flag.name: flag.annotation for flag in flags}
        return ask

    return gather


def _common(rounds: int, attempts: int) -> list[Parameter]:
    return [
        _flag("rounds", Rounds, rounds),
        _flag("attempts", Attempts, attempts),
        _flag("seed", Seed, 1),
        _flag("out", Out, None),
        _flag("plot", Plot, None),
        _flag("config", ConfigFile, None),
        _flag("set_", Settings, None),
    ]


def _flag(name: str, kind: Any, default: Any = Parameter.empty) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)
