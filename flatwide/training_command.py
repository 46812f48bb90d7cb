"""The command that trains: one run, or all missing runs of a study, or a preview of them.

python main.py --workdir=W --config=F [--config.field=value ...] [--dry_run] [--distributed ...]
"""

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flatwide import columns, flags, processes, registry
from flatwide import config as configs
from flatwide.runs import commands, signals
from flatwide.runs.logs import say

DONE, FAILED, BAD_INPUT = 0, 1, 2  # exit codes
_ADVICE = (
    "In a job of Slurm or Open MPI --distributed alone is enough; otherwise each process also needs "
    "--coordinator=HOST:PORT --processes=N --process=I. --initialization_timeout sets how many seconds they wait. "
    "Start all of them again."
)


def train(arguments: list[str], *, about: str) -> int:
    """Train the run or the study of a config, or describe what would be trained.

    Args:
      arguments: of the command line. about: text before the list of flags in `--help`.
    Returns: the exit code.
    Raises: ConfigError, DataError, ValueError, OSError.
    """
    if {"--help", "-h"} & set(arguments):
        print(flags.help_text(about))
        return DONE
    given, assignments, faults = flags.read(arguments)
    if not given.config or (given.distributed and faults):
        raise configs.ConfigError(faults)
    if given.distributed:
        from flatwide.runs import jax_settings

        timeout = given.initialization_timeout
        address = (given.coordinator, given.processes, given.process)
        jax_settings.start_processes(*address, timeout=timeout, advice=_ADVICE)
    config_text = configs.read_text(given.config)
    values, unread = configs.override(configs.load_file(given.config), assignments)
    faults += unread

    def keep(config: Mapping[str, Any]) -> Callable[[], Any]:
        texts = {"config_path": given.config, "config_text": config_text}
        return functools.partial(commands.keep, given.workdir, arguments, **texts, config=config)

    if "study" in configs.plain(values):
        if given.distributed:
            alone = (
                "--distributed: expected a config of one run; this one has a study, whose workers already train its "
                "runs in parallel (config.study.executor, config.study.workers). Omit it, or name a config of one run."
            )
            raise configs.ConfigError([*faults, alone])
        if not given.dry_run:
            return train_study(values, faults, given.workdir, keep=keep(values))
        from flatwide import decide
        from flatwide.study import command

        _check_study(values, faults)
        print((decide if values["study"].get("decide") else command).dry_run(values, given.workdir))
        return DONE
    try:
        config = configs.resolve(values)
    except configs.ConfigError as error:
        raise configs.ConfigError(faults + error.faults) from None
    if faults:
        raise configs.ConfigError(faults)
    return _preview(config, given.workdir) if given.dry_run else _run(config, given.workdir, keep=keep(config))


def _preview(config: Mapping[str, Any], workdir: str) -> int:
    """Print what would be trained; missing data are a fault nevertheless."""
    from flatwide.runs import jax_settings, preview, records
    from flatwide.runs.identity import locate
    from flatwide.runs.parts import is_local

    jax_settings.start(config["threads"] or jax_settings.available_threads())
    built = preview.assemble(config)
    print(preview.describe(built), flush=True)
    status = "new"
    if is_local(config):
        directory, _ = locate(config, workdir)
        status = directory.status()
        print(f"run directory: {directory.path} ({status})")
        if missing := records.missing(directory, config):
            print(f"measurements to take: {len(missing)}, such as {missing[0].stem}")
    else:
        print(f"run directory: in {workdir}/runs; its name depends on the data")
    if status not in columns.DONE:
        print(_cost_text(built))
    return DONE


def _cost_text(built: Any) -> str:
    """Estimate the memory and the duration of a run, from its compiled program and some of its steps."""
    from flatwide.runs import logs, memory, preview, timing

    logs.say("timing some steps; compiling them may take a minute")
    try:
        estimate = timing.estimate(built)
    except memory.OutOfMemoryError as error:
        return f"estimated time: none; {error}"
    without = ", measuring not counted" if built.config["measurements"] else ""
    total = logs.duration_text(estimate.seconds + estimate.compile_seconds)
    return (
        f"expected memory: {preview.readable(estimate.num_bytes)} of a device\n"
        f"estimated time: about {total}{without}, from some of its steps; "
        f"{logs.duration_text(estimate.compile_seconds)} of it for compiling, once on this machine"
    )


def _run(config: Mapping[str, Any], workdir: str, *, keep: Callable[[], Any]) -> int:
    """Train; SIGTERM and Ctrl-C save the state and stop; `keep` writes this command into the work directory."""
    from flatwide import runner
    from flatwide.measurements.errors import MeasurementError
    from flatwide.runs import driver, memory
    from flatwide.runs.identity import locate
    from flatwide.runs.table import write_results

    if processes.is_first():
        _check_workdir(workdir)
    received, problem = signals.heard(), ""

    def should_stop() -> bool:
        processes.share_signals(received)
        return bool(received)

    try:
        runner.run(config, workdir, should_stop=should_stop, on_start=lambda: processes.agreed(lambda: keep() and None))
        processes.agreed(lambda: None)  # the others wait while process 0 measures
    except driver.Stopped as stopped:
        if processes.is_first():
            write_results(workdir)
        return failed(128 + processes.agreed(lambda: received[0]), str(stopped))
    except MeasurementError as error:
        problem = str(error)
    except Exception as error:
        if processes.is_lost(error):
            return failed(
                FAILED, f"another process has ended: {error}. Rerun the same command to resume from a checkpoint."
            )
        if not memory.is_exhausted(error):
            raise
        return failed(FAILED, memory.explain(error, config))
    if processes.is_first():
        write_results(workdir)
        print(_shown_result(locate(config, workdir)[0]))
    return failed(FAILED, problem) if problem else DONE


def _shown_result(directory: Any) -> str:
    """Draw the curves of a run that is done, and return a line about its end."""
    from flatwide.figures import curves, rendering, save
    from flatwide.runs import logs

    result = directory.read_result() or {}
    try:
        rows = directory.read_metrics()
    except ValueError as error:  # the result is complete without its curves
        print(f"warning: no curves: {error}", file=sys.stderr)
        rows = []
    if rows:
        chart = curves.training_curves(rows, metric_name=result["metric_name"])
        try:
            save.save(chart, directory.path / "curves", data=rows)
        except rendering.RenderingError as error:
            print(f"warning: no curves.svg: {error}", file=sys.stderr)
    if result["status"] == "diverged":
        return f"diverged: the loss was not finite at step {result['diverged_at_step']}; result.json records it."
    name = result["metric_name"]
    shown = {
        f"test_{name}": result["test_metric"],
        f"best_test_{name}": result["test_metric_best"],
        "best_epoch": result["best_epoch"],
        f"train_{name}": result["train_metric"],
        "train_loss": result["train_loss"],
        "seconds": result["seconds"],
    }
    return f"finished: {logs.values_text(shown)}  ({result['num_params']:,} parameters)"


def _check_study(values: Mapping[str, Any], faults: list[str]) -> None:
    """Keep this process off the GPUs, and raise ConfigError with all faults of a study and of its flags at once."""
    from flatwide.runs import jax_settings
    from flatwide.study import plan

    jax_settings.stay_on_cpu()
    if faults or not isinstance(values["study"], Mapping):
        try:
            plan.expand(values)
        except configs.ConfigError as error:
            faults = faults + error.faults
        raise configs.ConfigError(faults)


def train_study(values: Mapping[str, Any], faults: list[str], workdir: str, *, keep: Callable[[], Any]) -> int:
    """Train the missing runs of a study and write its report; SIGTERM and Ctrl-C save and stop.

    Args:
      keep: writes this command into the work directory.
    """
    from flatwide import decide
    from flatwide.study import command
    from flatwide.study.settings import compared

    _check_study(values, faults)
    _check_workdir(workdir)
    tune, last = (values["study"].get(name, configs.STUDY[name].default) for name in ("tune", "average_last"))
    asked = {"metric": compared(values["study"]), "tune": tune, "average_last": last}

    def start() -> None:
        keep()
        say(f"report: {workdir}/report.html, rewritten as runs end, at most once a minute")

    def refresh(num_planned: int, is_over: bool) -> None:
        _report(workdir, asked, num_planned=num_planned, is_over=is_over)

    def run(should_stop: Callable[[], bool]) -> int:
        options = {"should_stop": should_stop, "on_start": start, "refresh": refresh}
        summary = (decide if values["study"].get("decide") else command).run(values, workdir, **options)
        print(_study_summary(summary, workdir, **asked))
        return DONE if summary.num_done == summary.num_runs else FAILED

    return supervised(run)


def supervised(run: Callable[[Callable[[], bool]], int]) -> int:
    """Run work of several processes, which SIGTERM and Ctrl-C stop; return the exit code.

    Args:
      run: (whether to stop) -> the exit code of work that ends.
    """
    from flatwide.runs.recording import Stopped
    from flatwide.study import supervise

    received = signals.heard()
    try:
        return run(lambda: bool(received))
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 128 + received[0]
    except supervise.WorkerError as error:
        print(error, file=sys.stderr)
        return FAILED


def _report(workdir: str, asked: Mapping[str, Any], *, num_planned: int, is_over: bool) -> None:
    """Write the report of a study, and its figures at the end; a fault of the report must not end the study."""
    from flatwide import report

    try:
        report.write(workdir, **asked, num_planned=num_planned, formats=("svg",) if is_over else ())
    except Exception as error:
        if is_over:
            print(f"the report was not written: {type(error).__name__}: {error}", file=sys.stderr)


def _study_summary(
    summary: Any, workdir: str, *, metric: str | Sequence[str], tune: Sequence[str], average_last: int
) -> str:
    """Return the answer of a study, and where its table and report are."""
    import flatwide
    from flatwide.analysis import several
    from flatwide.answers import short
    from flatwide.runs.averages import averaged
    from flatwide.study import decisions, question

    diverged = f" ({summary.num_diverged} diverged)" if summary.num_diverged else ""
    failed = f", {summary.num_failed} failed" if summary.num_failed else ""
    lacking = f", {summary.num_unmeasured} trained but not measured in full" if summary.num_unmeasured else ""
    done = f"runs: {summary.num_done} of {summary.num_runs} done{diverged}{failed}{lacking}"
    if verdict := decisions.sentence(workdir):
        steps = f"decisions: {workdir}/decisions.csv"
        return f"{verdict}\n{done}. Table: {workdir}/results.csv; {steps}; report: {workdir}/report.html"
    if summary.num_done + summary.num_unmeasured:
        runs = averaged(workdir, flatwide.load(workdir), average_last)
        split, *others = several.splits(runs, question.metrics_of(metric), tune=tune)
        text = short.terminal(short.short(split, others))
        return f"{text}\n{done}. Table: {workdir}/results.csv; report: {workdir}/report.html"
    return f"{done}. Table: {workdir}/results.csv"


def _check_workdir(workdir: str) -> None:
    """Create the work directory, before anything is loaded; raise ConfigError if that is impossible."""
    try:
        os.makedirs(workdir, exist_ok=True)
        usable = os.access(workdir, os.W_OK)
    except (OSError, ValueError, RecursionError):
        usable = False
    if not usable:
        raise configs.ConfigError(
            [f"--workdir={registry.shown(workdir)}: expected a folder that can be created and written to."]
        )


def failed(code: int, text: str) -> int:
    """Print an error, also in the other processes of a run over several, and end these; return the code."""
    print(text, file=sys.stderr)
    processes.leave(code, text)
    return code
