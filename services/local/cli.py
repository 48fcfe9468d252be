"""The `baton` command: which commands there are, and where. Flags are in `commands/`, work in files of its own."""

import typer

from services.local.certificate import show_certificate
from services.local.exits import exit_help
from services.local.help import EXAMPLES, TITLE
from services.local.shelf import shelved

HOMES = {
    "up": "services.local.commands.up:up",
    "demo": "services.local.commands.demo:demo",
    "generate": "services.local.commands.generate:generate",
    "chat": "services.local.commands.chat:chat",
    "top": "services.local.commands.top:top",
    "waterfall": "services.local.commands.waterfall:waterfall",
    "explain": "services.local.commands.explain:explain",
    "drain": "services.local.commands.drain:drain",
    "replay": "services.local.commands.replay:replay",
    "doctor": "services.local.commands.doctor:doctor",
    "simulate": "services.local.simulate:simulate_command",
    "plan": "services.local.plan:plan_command",
    "calibrate": "services.local.commands.calibrate:calibrate",
    "config": "services.local.commands.config:show_config",
    "bench": "services.local.bench.command:app",
}
"""In the order in which --help names them."""

app = typer.Typer(
    cls=shelved(HOMES),
    help=f"{TITLE}\n\n\b\n{EXAMPLES['baton']}",
    epilog=f"\b\n{exit_help()}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.callback()(show_certificate)
