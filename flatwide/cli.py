"""The command: flags in, exit code out.

    python main.py --workdir=W --config=F [--config.field=value ...] [--dry_run]
    python main.py report W            (or a CSV file; `report --help` has its flags)
    python main.py measure W --measurements=NAME,NAME      (of runs that are trained; `measure --help` has its flags)
    python main.py coordinate_check --config=F    (whether all widths train alike; `coordinate_check --help`)
    python main.py advise W --at="num_neurons=(3000,1000)"  (rho for a width that was not trained; `advise --help`)
    python main.py compare --workdir=W --rules=NAME,NAME    (a report card for SAM rules; `compare --help`)
    python main.py configs                                 (lists the configs that ship; --config takes their names)
    python main.py --version

A config with a study trains all its runs that are not done yet.

Exit codes: 0 done (a diverged run too), 1 failed on the way (a full disk, runs of a study, a slope that is off), 2 bad
config or missing data, 143 stopped by SIGTERM (130 by Ctrl-C) after its state was saved.
"""

import argparse
import functools
import importlib.metadata
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flatwide import config as configs
from flatwide import registry
from flatwide.runs import commands, disk, signals

DONE, FAILED, BAD_INPUT = 0, 1, 2

_USAGE = "python main.py --workdir=W --config=configs/digits_mlp.py [--config.field=value ...] [--dry_run]"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise configs.ConfigError([f"{message}; usage: {_USAGE}"])


def main(arguments: list[str]) -> int:
    """Run the command and give its exit code; bad input is printed, one line a fault, without a traceback."""
    try:
        commands_by_name = {
            "report": _write_report,
            "measure": _measure,
            "coordinate_check": _check_coordinates,
            "advise": _advise,
            "compare": _compare,
        }
        if arguments and arguments[0] in commands_by_name:
            return commands_by_name[arguments[0]](arguments[1:])
        if arguments == ["configs"]:
            print(configs.listing())
            return DONE
        if arguments == ["--version"]:
            print(f"flatwide {importlib.metadata.version('flatwide')}")
            return DONE
        flags, assignments, faults = _flags(arguments)
        if flags.help:
            print(_help())
            return DONE
        if not flags.config:
            raise configs.ConfigError(faults)
        config_text = configs.read_text(flags.config)
        values, unread = configs.override(configs.load_file(flags.config), assignments)
        faults += unread

        def keep(config: Mapping[str, Any]) -> Callable[[], Any]:
            texts = {"config_path": flags.config, "config_text": config_text}
            return functools.partial(commands.keep, flags.workdir, arguments, **texts, config=config)

        if "study" in configs.plain(values):
            return (
                _preview_study(values, faults, flags.workdir)
                if flags.dry_run
                else _study(values, faults, flags.workdir, keep=keep(values))
            )
        try:
            config = configs.resolve(values)
        except configs.ConfigError as error:
            raise configs.ConfigError(faults + error.faults) from None
        if faults:
            raise configs.ConfigError(faults)
        return _preview(config, flags.workdir) if flags.dry_run else _run(config, flags.workdir, keep=keep(config))
    except (ValueError, FileNotFoundError) as error:
        if registry.is_from_own_file(error):
            raise  # a fault in the user's own code, which its traceback shows best
        faults = error.faults if isinstance(error, configs.ConfigError) else [str(error)]
        print("\n".join(faults), file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        raise
    except MemoryError:
        print("out of memory: make the data or the network smaller.", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(_problem(error), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted before the first step; nothing was trained.", file=sys.stderr)
        return 130


def _problem(error: OSError) -> str:
    """Say what is wrong with files or the disk, and how to go on."""
    if disk.is_full(error):
        return disk.full_text(error, "the work directory")
    return str(error) if isinstance(error, disk.RemovedError) else f"{type(error).__name__}: {error}"


def _write_report(arguments: list[str]) -> int:
    """Write the report of a work directory or a table; images that cannot be drawn are a failure, the page is there."""
    from flatwide.figures.rendering import RenderingError
    from flatwide.report import command

    try:
        print(command.report(arguments))
    except RenderingError as error:
        print(error, file=sys.stderr)
        return FAILED
    return DONE


def _compare(arguments: list[str]) -> int:
    """Train and rank SAM rules; what was interrupted goes on with the same command."""
    from flatwide import compare

    def train(values: Mapping[str, Any], workdir: str) -> int:
        kept = functools.partial(
            commands.keep, workdir, ["compare", *arguments], config_path="", config_text="", config=values
        )
        return _study(values, [], workdir, keep=kept)

    text, code = compare.command(arguments, train=train)
    print(text, file=sys.stderr if code else sys.stdout)
    return code


def _advise(arguments: list[str]) -> int:
    """Print a rho for a width that was not trained."""
    from flatwide import advise

    print(advise.command(arguments))
    return DONE


def _preview(config: Mapping[str, Any], workdir: str) -> int:
    """Print what would be trained; data that is missing is a fault all the same."""
    from flatwide.runs import preview, records
    from flatwide.runs.identity import locate

    print(preview.describe(config))
    if preview.is_local(config):
        directory, _ = locate(config, workdir)
        print(f"run directory: {directory.path} ({directory.status()})")
        if missing := records.missing(directory, config):
            print(f"measurements to take: {len(missing)}, such as {missing[0].stem}")
    return DONE


def _run(config: Mapping[str, Any], workdir: str, *, keep: Callable[[], Any]) -> int:
    """Train; SIGTERM and Ctrl-C save the state and stop.

    Args:
      keep: writes this command into the work directory.
    """
    from flatwide import runner
    from flatwide.figures import curves, rendering, save
    from flatwide.measurements.measuring import MeasurementError
    from flatwide.runs import driver, memory
    from flatwide.runs.identity import locate
    from flatwide.runs.table import write_results

    _check_workdir(workdir)
    received, problem = signals.heard(), ""
    try:
        runner.run(config, workdir, should_stop=lambda: bool(received), on_start=keep)
    except driver.Stopped as stopped:
        write_results(workdir)
        print(stopped, file=sys.stderr)
        return 128 + received[0]
    except MeasurementError as error:
        problem = str(error)
    except Exception as error:
        if not memory.is_exhausted(error):
            raise
        print(memory.explain(error, config), file=sys.stderr)
        return FAILED
    write_results(workdir)
    directory, _ = locate(config, workdir)
    result = directory.read_result() or {}
    try:
        rows = directory.read_metrics()
    except ValueError as error:  # the result stands without its curves
        print(f"warning: no curves: {error}", file=sys.stderr)
        rows = []
    if rows:
        chart = curves.training_curves(rows, metric_name=result["metric_name"])
        try:
            save.save(chart, directory.path / "curves", data=rows)
        except rendering.RenderingError as error:
            print(f"warning: no curves.svg: {error}", file=sys.stderr)
    print(_summary(result))
    if problem:
        print(problem, file=sys.stderr)
    return FAILED if problem else DONE


def _measure(arguments: list[str]) -> int:
    """Measure runs that are trained already; SIGTERM and Ctrl-C stop between measurements."""
    from flatwide.study import measure_command, supervise

    request = measure_command.read(arguments)
    if request is None:
        print(measure_command.USAGE)
        return DONE
    received = signals.heard()
    try:
        counts = measure_command.run(request, should_stop=lambda: bool(received))
    except supervise.Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 128 + received[0]
    except supervise.WorkerError as error:
        print(error, file=sys.stderr)
        return FAILED
    if not request.is_dry:
        failed = f", {counts['failed']} failed" if counts["failed"] else ""
        print(f"measured: {counts['done']} runs{failed}. Tables: {request.workdir}/results.csv, measurements.csv")
    return FAILED if counts["failed"] else DONE


def _check_coordinates(arguments: list[str]) -> int:
    """Train for a few steps at growing widths; a slope that is off is a failure."""
    from flatwide.coordinate_check import command, slopes
    from flatwide.figures.rendering import RenderingError
    from flatwide.runs import jax_settings

    request, rest = command.read(arguments)
    if request is None:
        print(command.USAGE)
        return DONE
    assignments, faults = _assignments(rest)
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


def _preview_study(values: Mapping[str, Any], faults: list[str], workdir: str) -> int:
    """Print what a study would train."""
    from flatwide.study import command

    _check_study(values, faults)
    print(command.dry_run(values, workdir))
    return DONE


def _check_study(values: Mapping[str, Any], faults: list[str]) -> None:
    """Add the faults of a study to those of its flags, so that all are seen at once."""
    from flatwide.study import plan

    if faults or not isinstance(values["study"], Mapping):
        try:
            plan.expand(values)
        except configs.ConfigError as error:
            faults = faults + error.faults
        raise configs.ConfigError(faults)


def _study(values: Mapping[str, Any], faults: list[str], workdir: str, *, keep: Callable[[], Any]) -> int:
    """Train the runs of a study that are missing and write its report; SIGTERM and Ctrl-C save and stop.

    Args:
      keep: writes this command into the work directory.
    """
    from flatwide.study import command, supervise

    _check_study(values, faults)
    _check_workdir(workdir)
    metric, tune = (values["study"].get(name, configs.STUDY[name].default) for name in ("metric", "tune"))
    received = signals.heard()

    def refresh(num_planned: int, is_over: bool) -> None:
        _report(workdir, metric=metric, tune=tune, num_planned=num_planned, is_over=is_over)

    try:
        summary = command.run(values, workdir, should_stop=lambda: bool(received), on_start=keep, refresh=refresh)
    except supervise.Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 128 + received[0]
    except supervise.WorkerError as error:
        print(error, file=sys.stderr)
        return FAILED
    print(_study_summary(summary, workdir, metric=metric, tune=tune))
    return DONE if summary.num_done == summary.num_runs else FAILED


def _report(workdir: str, *, metric: str, tune: Sequence[str], num_planned: int, is_over: bool) -> None:
    """Write the report of a study, and its figures at the end; what goes wrong with it must not end the study."""
    from flatwide import report

    try:
        report.write(workdir, metric=metric, tune=tune, num_planned=num_planned, formats=("svg",) if is_over else ())
    except Exception as error:
        if is_over:
            print(f"the report was not written: {type(error).__name__}: {error}", file=sys.stderr)


def _study_summary(summary: Any, workdir: str, *, metric: str, tune: Sequence[str]) -> str:
    """Give the answer of a study, and say where the rest is."""
    import flatwide
    from flatwide.analysis import headline
    from flatwide.analysis.answer import answer

    diverged = f" ({summary.num_diverged} diverged)" if summary.num_diverged else ""
    failed = f", {summary.num_failed} failed" if summary.num_failed else ""
    lacking = f", {summary.num_unmeasured} trained but not measured in full" if summary.num_unmeasured else ""
    done = f"runs: {summary.num_done} of {summary.num_runs} done{diverged}{failed}{lacking}"
    lines = [f"{done}. Table: {workdir}/results.csv"]
    if summary.num_done + summary.num_unmeasured:
        runs = flatwide.load(workdir)
        short = headline.terminal(headline.headlines(runs, metric=metric))
        said = [short, "", answer(runs, metric=metric, tune=tune), ""] if short else [answer(runs, metric=metric)]
        lines = [*said, *lines, f"report: {workdir}/report.html"]
    return "\n".join(lines)


def _check_workdir(workdir: str) -> None:
    """Make the work directory, or say why not, before anything is loaded."""
    try:
        os.makedirs(workdir, exist_ok=True)
        usable = os.access(workdir, os.W_OK)
    except (OSError, ValueError, RecursionError):
        usable = False
    if not usable:
        raise configs.ConfigError(
            [f"--workdir={registry.shown(workdir)}: expected a folder that can be made and written to."]
        )


def _summary(result: Mapping[str, Any]) -> str:
    """Say in one line how a run ended."""
    if result["status"] == "diverged":
        return f"diverged: the loss was not finite at step {result['diverged_at_step']}; result.json records it."
    from flatwide.runs.logs import values_text

    name = result["metric_name"]
    shown = {
        f"test_{name}": result["test_metric"],
        f"best_test_{name}": result["test_metric_best"],
        "best_epoch": result["best_epoch"],
        f"train_{name}": result["train_metric"],
        "train_loss": result["train_loss"],
        "seconds": result["seconds"],
    }
    return f"finished: {values_text(shown)}  ({result['num_params']:,} parameters)"


def entry_point() -> None:
    """Run the command on this process's arguments and exit."""
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = DONE
    sys.exit(code)


def _flags(arguments: list[str]) -> tuple[argparse.Namespace, list[tuple[str, str]], list[str]]:
    """Split the arguments into the command's flags, the assignments to config fields, and faults."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--workdir")
    parser.add_argument("--config")
    parser.add_argument("--dry_run", action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    flags, rest = parser.parse_known_args(arguments)
    if flags.help:
        return flags, [], []
    assignments, faults = _assignments(rest)
    for name in ("workdir", "config"):
        if not getattr(flags, name):
            faults.append(f"--{name} is missing; usage: {_USAGE}")
    return flags, assignments, faults


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
            faults.append(f"{registry.shown(flag)} is not a flag of this command; usage: {_USAGE}")
    return assignments, faults


def _help() -> str:
    fields = "\n".join(f"  --config.{name}={field.default}" for name, field in configs.SCHEMA.items())
    return f"{__doc__}\nConfig fields and their defaults (docs/glossary.md says what each means):\n{fields}"
