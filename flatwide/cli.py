"""The command: flags in, exit code out.

    python main.py --workdir=W --config=F [--config.field=value ...] [--dry_run]
    python main.py --workdir=W --config=F --distributed [--coordinator=HOST:PORT --processes=N --process=I]
    python main.py report W            (or a CSV file; `report --help` has its flags)
    python main.py measure W --measurements=NAME,NAME      (of runs that are trained; `measure --help` has its flags)
    python main.py coordinate_check --config=F    (whether all widths train alike; `coordinate_check --help`)
    python main.py advise W --at="num_neurons=(3000,1000)"  (rho for a width that was not trained; `advise --help`)
    python main.py compare --workdir=W --rules=NAME,NAME    (a report card for SAM rules; `compare --help`)
    python main.py configs                                 (lists the configs that ship; --config takes their names)
    python main.py --version

A config with a study trains all its runs that are not done yet. With --distributed several processes train one run
together: in a job of Slurm or Open MPI the flag is enough, elsewhere each process has the other three as well.

Exit codes: 0 done (a diverged run too), 1 failed on the way (a full disk, runs of a study, a slope that is off), 2 bad
config or missing data, 143 stopped by SIGTERM (130 by Ctrl-C) after its state was saved.
"""

import functools
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flatwide import config as configs
from flatwide import flags, processes, registry
from flatwide.runs import commands, disk, signals

DONE, FAILED, BAD_INPUT = 0, 1, 2


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
        if arguments and not arguments[0].startswith("-"):
            raise configs.ConfigError([registry.unknown("command", arguments[0], [*commands_by_name, "configs"])])
        return _train(arguments)
    except (ValueError, FileNotFoundError) as error:
        if registry.is_from_own_file(error):
            raise  # a fault in the user's own code, which its traceback shows best
        faults = error.faults if isinstance(error, configs.ConfigError) else [str(error)]
        return _failed(BAD_INPUT, "\n".join(faults))
    except BrokenPipeError:
        raise
    except MemoryError:
        return _failed(FAILED, "out of memory: make the data or the network smaller.")
    except OSError as error:
        return _failed(FAILED, _problem(error))
    except KeyboardInterrupt:
        print("interrupted before the first step; nothing was trained.", file=sys.stderr)
        return 130


def _train(arguments: list[str]) -> int:
    """Train what a config describes, a run or a study, or say what would be trained."""
    given, assignments, faults = flags.read(arguments)
    if given.help:
        print(_help())
        return DONE
    if not given.config or (given.distributed and faults):
        raise configs.ConfigError(faults)
    if given.distributed:
        from flatwide.runs import jax_settings

        jax_settings.start_processes(given.coordinator, given.processes, given.process)
    config_text = configs.read_text(given.config)
    values, unread = configs.override(configs.load_file(given.config), assignments)
    faults += unread

    def keep(config: Mapping[str, Any]) -> Callable[[], Any]:
        texts = {"config_path": given.config, "config_text": config_text}
        return functools.partial(commands.keep, given.workdir, arguments, **texts, config=config)

    if "study" in configs.plain(values):
        _check_alone(given.distributed, faults)
        return (
            _preview_study(values, faults, given.workdir)
            if given.dry_run
            else _study(values, faults, given.workdir, keep=keep(values))
        )
    try:
        config = configs.resolve(values)
    except configs.ConfigError as error:
        raise configs.ConfigError(faults + error.faults) from None
    if faults:
        raise configs.ConfigError(faults)
    return _preview(config, given.workdir) if given.dry_run else _run(config, given.workdir, keep=keep(config))


def _failed(code: int, text: str) -> int:
    """Print what went wrong, here and in the other processes of a run over several, which it ends; return the code."""
    print(text, file=sys.stderr)
    processes.leave(code, text)
    return code


def _check_alone(is_distributed: bool, faults: list[str]) -> None:
    """Raise ConfigError for a study over several processes."""
    if is_distributed:
        faults = [
            *faults,
            "--distributed: expected a config of one run; this one has a study, whose workers train its runs side by "
            "side already (config.study.executor, config.study.workers). Leave the flag out, or name a config of one "
            "run.",
        ]
        raise configs.ConfigError(faults)


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
    from flatwide.measurements.measuring import MeasurementError
    from flatwide.runs import driver, memory
    from flatwide.runs.identity import locate
    from flatwide.runs.table import write_results

    if processes.is_first():
        _check_workdir(workdir)
    received, problem = signals.heard(), ""

    def should_stop() -> bool:
        processes.share_signals(received)
        return bool(received)

    def keep_command() -> None:
        processes.agreed(lambda: keep() and None)

    try:
        runner.run(config, workdir, should_stop=should_stop, on_start=keep_command)
    except driver.Stopped as stopped:
        if processes.is_first():
            write_results(workdir)
        return _failed(128 + processes.agreed(lambda: received[0]), str(stopped))
    except MeasurementError as error:
        problem = str(error)
    except Exception as error:
        if processes.is_lost(error):
            return _failed(FAILED, f"another process has ended: {error}. The same command goes on from a checkpoint.")
        if not memory.is_exhausted(error):
            raise
        return _failed(FAILED, memory.explain(error, config))
    if processes.is_first():
        write_results(workdir)
        print(_shown_result(locate(config, workdir)[0]))
    return _failed(FAILED, problem) if problem else DONE


def _shown_result(directory: Any) -> str:
    """Draw the curves of a run that is done, and say in one line how it ended."""
    from flatwide.figures import curves, rendering, save

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
    return _summary(result)


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
    assignments, faults = flags.assignments(rest)
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
    except Exception as error:
        if processes.count() == 1:
            raise
        traceback.print_exc()
        code = FAILED
        processes.leave(code, f"{type(error).__name__}: {error}")
    processes.leave(code)
    sys.exit(code)


def _help() -> str:
    fields = "\n".join(f"  --config.{name}={field.default}" for name, field in configs.SCHEMA.items())
    return f"{__doc__}\nConfig fields and their defaults (docs/glossary.md says what each means):\n{fields}"
