"""The command: flags in, exit code out.

    python main.py --workdir=W --config=F [--config.field=value ...] [--dry_run]

Exit codes: 0 done (a diverged run too), 2 bad config or missing data, 143 stopped by SIGTERM (130 by Ctrl-C) after saving.
"""

import argparse
import os
import sys

from flatwide import config as configs

DONE, BAD_INPUT = 0, 2

_USAGE = "python main.py --workdir=W --config=configs/digits_mlp.py [--config.field=value ...] [--dry_run]"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise configs.ConfigError([f"{message}; usage: {_USAGE}"])


def main(arguments: list[str]) -> int:
    """Run the command and give its exit code; bad input is printed, one line a fault, without a traceback."""
    try:
        flags, assignments = _flags(arguments)
        if flags.help:
            print(_help())
            return DONE
        values, faults = configs.override(configs.load_file(flags.config), assignments)
        _set_threads(values.get("threads"))
        from flatwide import driver

        try:
            config = configs.resolve(values)
        except configs.ConfigError as error:
            raise configs.ConfigError(faults + error.faults) from None
        if faults:
            raise configs.ConfigError(faults)
        if flags.dry_run:
            print(driver.describe(config, flags.workdir))
            return DONE
        return driver.run_until_done_or_signal(config, flags.workdir)
    except (ValueError, FileNotFoundError) as error:
        faults = error.faults if isinstance(error, configs.ConfigError) else [str(error)]
        print("\n".join(faults), file=sys.stderr)
        return BAD_INPUT


def entry_point() -> None:
    """Run the command on this process's arguments and exit."""
    sys.exit(main(sys.argv[1:]))


def _flags(arguments: list[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Split the arguments into the command's flags and the assignments to config fields."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--workdir")
    parser.add_argument("--config")
    parser.add_argument("--dry_run", action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    flags, rest = parser.parse_known_args(arguments)
    if flags.help:
        return flags, []
    assignments, faults = _assignments(rest)
    for name in ("workdir", "config"):
        if not getattr(flags, name):
            faults.append(f"--{name} is missing; usage: {_USAGE}")
    if faults:
        raise configs.ConfigError(faults)
    return flags, assignments


def _assignments(arguments: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Read `--config.a=1`, `--config.a 1`, `--config.a` (true) and `--noconfig.a` (false)."""
    assignments, faults, waiting = [], [], list(arguments)
    while waiting:
        flag = waiting.pop(0)
        name, equals, text = flag.lstrip("-").partition("=")
        if flag.startswith("--noconfig.") and not equals:
            assignments.append((name.removeprefix("noconfig."), "false"))
        elif flag.startswith("--config."):
            if not equals:
                text = waiting.pop(0) if waiting and not waiting[0].startswith("--") else "true"
            assignments.append((name.removeprefix("config."), text))
        else:
            faults.append(f"{flag!r} is not a flag of this command; usage: {_USAGE}")
    return assignments, faults


def _set_threads(threads) -> None:
    """Fix the number of XLA's threads, on which the last bits of a result depend; works only before JAX starts."""
    if isinstance(threads, int) and threads >= 1:
        os.environ["NPROC"] = str(threads)


def _help() -> str:
    fields = "\n".join(f"  --config.{name}={field.default}" for name, field in configs.SCHEMA.items())
    return f"{__doc__}\nConfig fields and their defaults (docs/glossary.md says what each means):\n{fields}"
