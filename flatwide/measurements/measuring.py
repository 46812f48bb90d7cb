"""Measurement of the saved networks of one run, each written to a separate file."""

import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flatwide import catalogue, registry, streams
from flatwide.measurements.errors import MeasurementError, NotApplicableError, WaitingError
from flatwide.measurements.subject import Measured, Saved, examples_of
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
    """Take the measurements that a config requests and a finished run lacks; do nothing for other runs.

    Args:
      config: `measurements`, `measure_epochs`, `measure_every_steps` and `measure_examples`; everything else is read
        from the run.
      should_stop: called before each measurement.
      quiet: whether to print nothing.
    Raises: BusyError if another process uses the run; Stopped; after all other measurements MeasurementError, or
      WaitingError if nothing failed and the missing ones wait for another run.
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
    """Take the measurements, and yield the message of each failure; those that wait are added to `waiting`."""
    saved: Saved | None = None
    for wanted in records.missing(directory, config):  # again: another process may just have measured
        if should_stop():
            raise Stopped("stopped between measurements; rerun the same command to continue.")
        try:
            saved = saved or open_run(directory, num_examples=wanted.num_examples)
            _measure_one(saved, wanted, quiet=quiet)
        except WaitingError as error:
            waiting.append(error)
        except Exception as error:
            summary = f"{wanted.stem}: {type(error).__name__}: {' '.join(str(error).split())}"
            directory.write_error("".join(traceback.format_exception(error)) + summary)
            say(f"failed: {directory.name}: {summary}", quiet=quiet)
            yield summary


def _measure_one(saved: Saved, wanted: Wanted, *, quiet: bool) -> None:
    function = catalogue.find("measurements", wanted.name)
    title = catalogue.title(wanted.name)
    key = streams.key(saved.built.config["seed"], f"measurement {catalogue.word(wanted.name)}")
    began = time.monotonic()
    subject = saved.subject(wanted.epoch)
    reason = {}
    try:
        measured = function(subject, key=key)
    except NotApplicableError as error:
        measured, reason = Measured({}), {"not_applicable": str(error)}
        say(f"{saved.directory.name}: {title} does not apply: {error}", quiet=quiet)
    if not isinstance(measured, Measured):
        raise ValueError(f"{wanted.name!r} returned {type(measured).__name__}; expected a Measured.")
    facts = {
        **reason,
        "seconds": time.monotonic() - began,
        "options": _options(function),
        **recording.where(),
        "measured": recording.now(),
    }
    records.write(
        saved.directory, wanted, measured, epoch=subject.epoch, num_examples=subject.num_examples, facts=facts
    )
    if reason:
        return
    shown = dict(list(measured.values.items())[:4])
    say(f"{saved.directory.name}: {title} at {wanted.network}: {values_text(shown)}", quiet=quiet)


def _options(function: Callable) -> dict[str, Any]:
    """Return the defaults with which a measurement was called."""
    defaults = {name: p.default for name, p in registry.fields(function).items() if name != "key"}
    return json.loads(json.dumps(defaults, default=str))


def open_run(directory: RunDirectory, *, num_examples: int) -> Saved:
    """Rebuild a finished run, to measure its networks on num_examples of its training examples.

    Raises: ValueError if it is not finished, or its data or a user-defined file have changed.
    """
    built = rebuild(directory)
    return Saved(directory=directory, built=built, examples=examples_of(built, num_examples), num_examples=num_examples)
