"""The flags of the command that trains, and assignments to config fields."""

import argparse
import re
import textwrap

from flatwide import registry
from flatwide.config import SCHEMA
from flatwide.config.meanings import meanings
from flatwide.config.parser import FlagParser

_USAGE = "python main.py --workdir=W --config=configs/digits_mlp.py [--config.field=value ...] [--dry_run]"


def read(arguments: list[str]) -> tuple[argparse.Namespace, list[tuple[str, str]], list[str]]:
    """Split the arguments of the command that trains into its flags, the assignments to config fields, and faults."""
    flags, rest = _parser().parse_known_args(arguments)
    given, faults = assignments(rest, usage=_USAGE)
    for name in ("workdir", "config"):
        if not getattr(flags, name):
            faults.append(f"--{name} is missing; usage: {_USAGE}")
    return flags, given, faults + _process_faults(flags)


def help_text(about: str) -> str:
    """Return the help of the command that trains: a text, its flags, and all config fields with their defaults."""
    known = meanings()
    fields = "\n".join(
        f"  --config.{name}={field.default}\n{_plain(known[name].meaning)}" for name, field in SCHEMA.items()
    )
    return f"{about.strip()}\n\n{_parser().format_help()}\nconfig fields, their defaults and meaning:\n{fields}"


def _plain(meaning: str) -> str:
    """Wrap the meaning of a field for a terminal, without the Markdown of its links and code."""
    text = re.sub(r"\[(.+?)\]\(\S+\)", r"\1", meaning).replace("`", "")
    return textwrap.fill(text, 100, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False)


def _parser() -> FlagParser:
    parser = FlagParser(_USAGE, example="python main.py --workdir=runs/digits --config=digits_mlp --config.rho=0.05")
    parser.add_argument("--workdir", help="folder for runs, tables and the report (required)")
    parser.add_argument("--config", help="a config file, or the name of one that ships (required)")
    parser.add_argument("--dry_run", action="store_true", help="describe what would be trained, and train nothing")
    parser.add_argument("--distributed", action="store_true", help="train one run with several processes")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0 (default: as the job's)")
    parser.add_argument("--processes", type=int, metavar="N", help="number of processes (default: as the job's)")
    parser.add_argument("--process", type=int, metavar="I", help="index of this process (default: as the job's)")
    waiting = "how long to wait for the other processes (default: 300)"
    parser.add_argument("--initialization_timeout", type=int, metavar="SECONDS", help=waiting)
    return parser


def _process_faults(flags: argparse.Namespace) -> list[str]:
    """List faults of the flags of a run over several processes."""
    given = {name: getattr(flags, name) for name in ("coordinator", "processes", "process")}
    missing = [f"--{name}" for name, value in given.items() if value is None]
    timeout = flags.initialization_timeout
    if not flags.distributed:
        read = given | {"initialization_timeout": timeout}
        return [f"--{name} is read with --distributed only." for name, value in read.items() if value is not None]
    faults = []
    if timeout is not None and timeout < 1:
        faults.append(f"--initialization_timeout={timeout}: expected a number of seconds >= 1.")
    if flags.dry_run:
        faults.append("--dry_run trains nothing; leave out --distributed.")
    if 0 < len(missing) < len(given):
        faults.append(
            f"{', '.join(missing)}: expected together with the others, or none of them in a job of Slurm or Open MPI."
        )
    elif not missing:
        if not re.fullmatch(r".+:[0-9]+", flags.coordinator):
            faults.append(f"--coordinator={registry.shown(flags.coordinator)}: expected HOST:PORT of process 0.")
        if flags.processes < 1 or not 0 <= flags.process < flags.processes:
            faults.append(
                f"--process={flags.process}, --processes={flags.processes}: expected a process in [0, processes)."
            )
    return faults


def assignments(arguments: list[str], *, usage: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Read `--config.a=1`, `--config.a 1`, `--config.a` (true) and `--noconfig.a` (false); others are faults.

    Args:
      usage: of the command, for the message of a fault.
    """
    given, faults, waiting = [], [], list(arguments)
    while waiting:
        flag = waiting.pop(0)
        name, equals, text = flag.lstrip("-").partition("=")
        if flag.startswith("--noconfig.") and not equals:
            given.append((name.removeprefix("noconfig."), "false"))
        elif flag.startswith("--config."):
            if not equals:
                text = waiting.pop(0) if waiting and not waiting[0].startswith("--") else "true"
            given.append((name.removeprefix("config."), text))
        else:
            faults.append(f"{registry.shown(flag)} is not a flag of this command; usage: {usage}")
    return given, faults
