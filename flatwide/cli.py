"""The command: flags in, exit code out.

    python main.py --workdir=W --config=F [--config.field=value ...] [--dry_run]
    python main.py --workdir=W --config=F --distributed [--coordinator=HOST:PORT --processes=N --process=I]
    python main.py report W            (or a CSV file)
    python main.py measure W --measurements=NAME,NAME        (measures trained runs)
    python main.py coordinate_check --config=F               (whether all widths train alike)
    python main.py advise W --at="num_neurons=(3000,1000)"   (rho for an untrained width)
    python main.py plan W                                    (which runs would decide what is undecided)
    python main.py diagnose W                                (why SAM may not help in these runs)
    python main.py compare --workdir=W --rules=NAME,NAME     (ranks SAM rules)
    python main.py configs                                   (lists the configs that ship; --config takes their names)
    python main.py doctor                                    (checks this machine: devices, versions, locks)
    python main.py --version

Each command has `--help`. A config with a study trains all its runs that are not done yet. With --distributed several
processes train one run together: in a job of Slurm or Open MPI the flag is enough, elsewhere each process also needs
the other three.

Exit codes: 0 done (a diverged run too), 1 failed during the work (a full disk, runs of a study, a slope that is off),
2 bad config, missing data or refused advice, 143 stopped by SIGTERM (130 by Ctrl-C) after its state was saved.
"""

import functools
import importlib
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from flatwide import config as configs
from flatwide import flags, machine, processes, registry, training_command
from flatwide.config.parser import FlagParser, HelpShown
from flatwide.runs import commands, disk
from flatwide.training_command import BAD_INPUT, DONE, FAILED, failed


def main(arguments: list[str]) -> int:
    """Run the command and return its exit code; bad input is printed without a traceback, one line per fault."""
    try:
        commands_by_name = {
            "report": _write_report,
            "measure": _measure,
            "coordinate_check": _check_coordinates,
            "advise": _advise,
            **{name: functools.partial(_print, name) for name in ("plan", "diagnose")},
            "compare": _compare,
            "configs": _list_configs,
            "doctor": _examine,
        }
        if arguments and arguments[0] in commands_by_name:
            return commands_by_name[arguments[0]](arguments[1:])
        if arguments == ["--version"]:
            print(f"flatwide {importlib.metadata.version('flatwide')}")
            return DONE
        if not arguments:
            return failed(BAD_INPUT, (__doc__ or "").strip())
        if not arguments[0].startswith("-"):
            raise configs.ConfigError([registry.unknown("command", arguments[0], commands_by_name)])
        return training_command.train(arguments, about=__doc__ or "")
    except HelpShown as shown:
        print(shown)
        return DONE
    except (ValueError, FileNotFoundError) as error:
        if registry.is_from_own_file(error):
            raise  # a fault in the user's own code, which its traceback shows best
        faults = error.faults if isinstance(error, configs.ConfigError) else [str(error)]
        return failed(BAD_INPUT, "\n".join(faults))
    except BrokenPipeError:
        raise
    except MemoryError:
        return failed(FAILED, "out of memory: make the data or the network smaller.")
    except OSError as error:
        text = str(error) if isinstance(error, disk.RemovedError) else f"{type(error).__name__}: {error}"
        return failed(FAILED, disk.full_text(error, "the work directory") if disk.is_full(error) else text)
    except KeyboardInterrupt:
        print("interrupted before the first step; nothing was trained.", file=sys.stderr)
        return 130


def _list_configs(arguments: list[str]) -> int:
    """Print the names of the configs that ship, each with its purpose."""
    FlagParser(
        "python main.py configs",
        description="List the configs and studies that ship, with a line each; --config takes their names.",
        example="python main.py configs | grep mnist",
    ).parse_args(arguments)
    print(configs.listing())
    return DONE


def _write_report(arguments: list[str]) -> int:
    """Write the report of a work directory or a table; if images cannot be drawn, the page is there all the same."""
    from flatwide.figures.rendering import RenderingError
    from flatwide.report import command

    try:
        print(command.report(arguments))
    except RenderingError as error:
        print(error, file=sys.stderr)
        return FAILED
    return DONE


def _compare(arguments: list[str]) -> int:
    """Train and rank SAM rules; rerun the same command to resume an interrupted comparison."""
    from flatwide import compare

    def train(values: Mapping[str, Any], workdir: str) -> int:
        keep = functools.partial(
            commands.keep, workdir, ["compare", *arguments], config_path="", config_text="", config=values
        )
        return training_command.train_study(values, [], workdir, keep=keep)

    text, code = compare.command(arguments, train=train)
    print(text, file=sys.stderr if code else sys.stdout)
    return code


def _advise(arguments: list[str]) -> int:
    """Print advice; a refused one is an error, since there are too few runs for it."""
    from flatwide import advise

    given, refused = advise.command(arguments)
    if given:
        print(given)
    return failed(BAD_INPUT, refused) if refused else DONE


def _print(module: str, arguments: list[str]) -> int:
    """Print what a command that only reads returns; something to try is no failure."""
    print(importlib.import_module(f"flatwide.{module}").command(arguments))
    return DONE


def _measure(arguments: list[str]) -> int:
    """Measure trained runs; SIGTERM and Ctrl-C stop between measurements."""
    from flatwide.runs import jax_settings
    from flatwide.study import measure_command

    request = measure_command.read(arguments)
    jax_settings.stay_on_cpu()

    def run(should_stop: Callable[[], bool]) -> int:
        counts = measure_command.run(request, should_stop=should_stop)
        if not request.is_dry:
            failures = f", {counts['failed']} failed" if counts["failed"] else ""
            print(f"measured: {counts['done']} runs{failures}. Tables: {request.workdir}/results.csv, measurements.csv")
        return FAILED if counts["failed"] else DONE

    return training_command.supervised(run)


def _examine(arguments: list[str]) -> int:
    """Check this machine; something to fix is a failure."""
    from flatwide import checklist, doctor

    checks = list(doctor.examine(*doctor.read(arguments)))
    print(checklist.text(checks))
    return FAILED if any(check.fix for check in checks) else DONE


def _check_coordinates(arguments: list[str]) -> int:
    """Train for a few steps at increasing widths; a slope that is off is a failure."""
    from flatwide.coordinate_check import command, slopes
    from flatwide.figures.rendering import RenderingError
    from flatwide.runs import jax_settings

    request, rest = command.read(arguments)
    assignments, faults = flags.assignments(rest, usage=command.USAGE)
    values = {name: value for name, value in configs.load_file(request.config_path).items() if name != "study"}
    values, unread = configs.override(values, assignments)
    if faults + unread:
        raise configs.ConfigError(faults + unread)
    config = configs.resolve(values)
    jax_settings.start(config["threads"] or jax_settings.available_threads())
    check = slopes.run(config, widths=request.widths, num_seeds=request.num_seeds)
    print(command.text(check))
    if request.output is not None:
        try:
            print("written:", *command.write(check, request.output))
        except RenderingError as error:
            print(f"warning: no figure: {error}", file=sys.stderr)
    return FAILED if check.is_off else DONE


def entry_point() -> None:
    """Run the command on this process's arguments and exit."""
    machine.collect_garbage_rarely()
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = DONE
    except Exception as error:
        if processes.count() == 1:
            raise
        traceback.print_exc()
        code = FAILED
        processes.leave(code, f"{type(error).__name__}: {error}")
    processes.leave(code)
    sys.exit(code)
