"""Measure the saved networks of one run, one file after another."""

import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flatwide import catalogue, registry, streams
from flatwide.measurements.subject import (
    Measured,
    MeasurementError,
    NotApplicableError,
    Saved,
    WaitingError,
    examples_of,
)
from flatwide.runs import jax_settings, recording, records
from flatwide.runs.directory import RunDirectory
from flatwide.runs.load import rebuild
from flatwide.runs.logs import say, values_text
from flatwide.runs.recording import Stopped
from flatwide.runs.records import Wanted


def measure(
    directory: RunDirectory,
    config: Mapping[str, Any],
    *,
    should_stop: Callable[[], bool] = lambda: False,
    quiet: bool = False,
) -> None:
    """Measure what a config asks of a finished run and is not there; of one that diverged or is not done, nothing.

    Args:
      config: `measurements`, `measure_epochs`, `measure_every_steps` and `measure_examples`; all else is read from the
        run.
      should_stop: asked before each measurement.
    Raises: BusyError if another process has the run in hand; Stopped; once all others are done MeasurementError, or
      WaitingError if nothing failed and what is missing waits for another run.
    """
    if not records.missing(directory, config):
        return
    jax_settings.start(jax_settings.available_threads())
    waiting: list[WaitingError] = []
    with directory.lock():
        failures = list(_failures(directory, config, waiting, should_stop=should_stop, quiet=quiet))
    if failures:
        raise MeasurementError(
            f"{directory.path}: {len(failures)} of the measurements failed: {'; '.join(failures[:3])}"
            f"{'; …' if len(failures) > 3 else ''}. See {directory.error_file}."
        )
    if waiting:
        raise waiting[0]


def _failures(
    directory: RunDirectory,
    config: Mapping[str, Any],
    waiting: list[WaitingError],
    *,
    should_stop: Callable[[], bool],
    quiet: bool,
) -> Iterator[str]:
    """Measure, and yield what went wrong; what has to wait is collected."""
    saved: Saved | None = None
    for one in records.missing(directory, config):  # again: another process may have been at it until now
        if should_stop():
            raise Stopped("stopped between measurements; the same command goes on from there.")
        try:
            saved = saved or open_run(directory, num_examples=one.num_examples)
            _measure_one(saved, one, quiet=quiet)
        except WaitingError as error:
            waiting.append(error)
        except Exception as error:
            told = f"{one.stem}: {type(error).__name__}: {' '.join(str(error).split())}"
            directory.write_error("".join(traceback.format_exception(error)) + told)
            say(f"failed: {directory.name}: {told}", quiet=quiet)
            yield told


def _measure_one(saved: Saved, one: Wanted, *, quiet: bool) -> None:
    function = catalogue.find("measurements", one.name)
    title = catalogue.title(one.name)
    key = streams.key(saved.built.config["seed"], f"measurement {title}")
    began = time.monotonic()
    subject = saved.subject(one.epoch)
    reason = {}
    try:
        found = function(subject, key=key)
    except NotApplicableError as error:
        found, reason = Measured({}), {"not_applicable": str(error)}
        say(f"{saved.directory.name}: {title} does not apply: {error}", quiet=quiet)
    if not isinstance(found, Measured):
        raise ValueError(f"{one.name!r} gave {type(found).__name__}; expected a Measured.")
    facts = {
        **reason,
        "seconds": time.monotonic() - began,
        "options": _options(function),
        **recording.where(),
        "measured": recording.now(),
    }
    records.write(saved.directory, one, found, epoch=subject.epoch, num_examples=subject.num_examples, facts=facts)
    if reason:
        return
    shown = dict(list(found.values.items())[:4])
    say(f"{saved.directory.name}: {title} at {one.network}: {values_text(shown)}", quiet=quiet)


def _options(function: Callable) -> dict[str, Any]:
    """List the defaults with which a measurement was called."""
    defaults = {name: p.default for name, p in registry.fields(function).items() if name != "key"}
    return json.loads(json.dumps(defaults, default=str))


def open_run(directory: RunDirectory, *, num_examples: int) -> Saved:
    """Rebuild a finished run, to measure its networks on some of its training examples.

    Raises: ValueError if it is not finished, or its data or a file of the user's own have changed.
    """
    built = rebuild(directory)
    return Saved(directory=directory, built=built, examples=examples_of(built, num_examples), num_examples=num_examples)
