"""The measurement files of a run: which exist, which are missing, and their contents.

Each is a JSON file, written atomically and named after everything that it depends on, so that none is ever overwritten.
"""

import hashlib
import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import numpy as np

from flatwide import catalogue
from flatwide.config.schema import SCHEMA
from flatwide.runs import disk, snapshots
from flatwide.runs.directory import RunDirectory, write_atomically

_DEFAULT_EXAMPLES = SCHEMA["measure_examples"].default


_ARRAYS_DIGEST = "arrays_sha256"  # of the npz beside a JSON file
_SHARE = "training_share"  # duration of a measurement relative to that of training

COLUMNS = ("run", "epoch", "measurement", "quantity", "value", "standard_error")  # of measurements.csv


class Wanted(NamedTuple):
    """One measurement of one network of a run.

    name: as in `config.measurements`. epoch: of a snapshot, or None for the end. num_examples: the requested number.
    step: of a snapshot within an epoch, whose files are named after the step.
    """

    name: str
    epoch: float | None
    num_examples: int
    step: int | None = None

    @property
    def network(self) -> str:
        """The name of the network: "the end", "epoch 3" or "step 40"."""
        if self.epoch is None:
            return "the end"
        return f"epoch {self.epoch}" if self.step is None else f"step {self.step}"

    @property
    def stem(self) -> str:
        """The name of its file: the measurement, and its settings that differ from the defaults."""
        version = catalogue.version(self.name)
        parts = [catalogue.word(self.name)] + ([] if version == "1" else [f"v{version}"])
        parts += [] if self.epoch is None else [self.network.replace(" ", "")]
        parts += [] if self.num_examples == _DEFAULT_EXAMPLES else [f"examples{self.num_examples}"]
        return "-".join(parts)


class Measured(NamedTuple):
    """The result of a measurement.

    values: name -> number; each becomes a column `<measurement>.<name>`. errors: name -> standard error of the value of
    the same name, where it is an estimate. arrays: results that are not single numbers, such as a spectrum. cost: the
    work, in Hessian-vector products over the examples.
    """

    values: Mapping[str, float]
    errors: Mapping[str, float] = MappingProxyType({})
    arrays: Mapping[str, np.ndarray] = MappingProxyType({})
    cost: float = 0


class Record(NamedTuple):
    """The content of a measurement file.

    epoch: passes over the training examples; is_final: whether that was the run's end. errors: standard errors.
    seconds: its duration; None if it was not recorded.
    """

    name: str
    epoch: float
    is_final: bool
    num_examples: int
    values: Mapping[str, float]
    errors: Mapping[str, float]
    measured: str
    seconds: float | None = None


def wanted(config: Mapping[str, Any], result: Mapping[str, Any]) -> list[Wanted]:
    """List the measurements that a config requests of a run that is done; none if it diverged.

    Args:
      result: the content of its `result.json`.
    """
    if result["status"] != "finished":
        return []
    each, names, count = steps_per_epoch(result), config["measurements"], config["measure_examples"]
    steps = snapshots.wanted(config, num_steps=result["steps"], steps_per_epoch=each)
    along = [of_step(name, step, each, num_examples=count) for step in steps for name in names]
    return along + [Wanted(name, None, count) for name in names]


def of_step(name: str, step: int, steps_per_epoch: int, *, num_examples: int) -> Wanted:
    """Return the measurement of the snapshot after a step."""
    is_within = step % steps_per_epoch != 0
    return Wanted(name, snapshots.epoch(step, steps_per_epoch), num_examples, step if is_within else None)


def steps_per_epoch(result: Mapping[str, Any]) -> int:
    """Return the number of steps per epoch of a run that is done."""
    return round(result["steps"] / result["epochs"])


def missing(directory: RunDirectory, config: Mapping[str, Any]) -> list[Wanted]:
    """List the missing measurements of a run; none if it is not done.

    Raises: ValueError if `result.json` is damaged.
    """
    if not config["measurements"] or (result := directory.read_result()) is None:
        return []
    return [target for target in wanted(config, result) if not _path(directory, target).exists()]


def write(
    directory: RunDirectory, target: Wanted, measured: Measured, *, epoch: float, num_examples: int, facts: Mapping
) -> None:
    """Write a measurement: its arrays first, and last the JSON file, whose presence means that it is done.

    Args:
      facts: further fields to record, such as the duration in seconds.
    Raises: ValueError if a value is not a number or an error has no value.
    """
    for group in ("values", "errors"):
        for name, value in getattr(measured, group).items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(
                    f"{target.stem}: {group}[{name!r}]={value!r}: expected a Python number; write float(...)."
                )
    if unknown := sorted(measured.errors.keys() - measured.values.keys()):
        raise ValueError(
            f"{target.stem}: errors of {unknown}: expected names of values; found {sorted(measured.values)}."
        )
    path, arrays_digest = _path(directory, target), None
    if measured.arrays:
        npz = _npz({name: np.asarray(array) for name, array in measured.arrays.items()})
        write_atomically(path.with_suffix(".npz"), npz)
        arrays_digest = hashlib.sha256(npz).hexdigest()
    content = {
        "name": catalogue.word(target.name),
        "version": catalogue.version(target.name),
        "epoch": epoch,
        "is_final": target.epoch is None,
        "num_examples": num_examples,
        "values": dict(measured.values),
        "errors": dict(measured.errors),
        "arrays": {name: list(np.shape(array)) for name, array in measured.arrays.items()},
        _ARRAYS_DIGEST: arrays_digest,
        "file": path.name,
        "cost": measured.cost,
        **facts,
    }
    directory.write_own(path, content)


def read(directory: RunDirectory) -> tuple[list[Record], list[str]]:
    """Read all measurements of a run.

    Returns: the records, and a line for each file that is damaged.
    """
    records, problems = [], []
    for path in sorted((directory.path / "measurements").glob("*.json")):
        try:
            if (content := _content(directory, path)) is not None:
                _npz_bytes(path, content)
                records.append(_record(content))
        except disk.UnreadableError as error:
            problems.append(str(error))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            fault = str(error) if str(path.parent) in str(error) else f"{path}: the file is damaged ({error!r})."
            problems.append(f"{fault} Or remove it and measure again.")
    return records, problems


def read_arrays(directory: RunDirectory, target: Wanted) -> dict[str, np.ndarray] | None:
    """Read the arrays of a measurement; None if it was not taken, has none, or they cannot be read."""
    try:
        return arrays_beside(directory, _path(directory, target))
    except ValueError:
        return None


def arrays_beside(directory: RunDirectory, path: Path) -> dict[str, np.ndarray] | None:
    """Read the arrays beside a measurement's JSON file; None if there is no such file, or it has no arrays.

    Raises: ValueError if either cannot be read, was changed, or belongs to another measurement.
    """
    content = _content(directory, path)
    if content is None or (npz := _npz_bytes(path, content)) is None:
        return None
    try:
        with np.load(io.BytesIO(npz), allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path.with_suffix('.npz')}: the file is damaged ({error}).") from error


def _content(directory: RunDirectory, path: Path) -> dict[str, Any] | None:
    """Read the JSON file of a measurement; None if there is none.

    Raises: ValueError if it is damaged, was changed, or is that of another measurement or run.
    """
    content = directory.read_own(path)
    if content and content.get("file", path.name) != path.name:
        raise ValueError(f"{path}: it is a copy of {content['file']}; restore it from a copy.")
    return content


def _npz_bytes(path: Path, content: Mapping[str, Any]) -> bytes | None:
    """Read the file of a measurement's arrays; None if it has none.

    Raises: ValueError if it is not the file that was written with the JSON.
    """
    if not content.get("arrays"):
        return None
    npz = disk.read(path := path.with_suffix(".npz"))
    expected = content.get(_ARRAYS_DIGEST)  # earlier versions recorded none
    if npz is None or expected not in (None, hashlib.sha256(npz).hexdigest()):
        raise ValueError(f"{path}: {'it is missing' if npz is None else 'it was changed'}; restore it from a copy.")
    return npz


def _record(fields: Mapping[str, Any]) -> Record:
    """Read the content of a file.

    Raises: ValueError, KeyError or TypeError if it does not contain a measurement.
    """
    record = Record(**{name: fields[name] for name in Record._fields if name in fields or name != "seconds"})
    numbers = [value for value in (*record.values.values(), *record.errors.values()) if value is not None]
    if not all(
        isinstance(value, int | float) for value in (record.epoch, record.num_examples, record.seconds or 0, *numbers)
    ):
        raise ValueError("expected numbers")
    if not isinstance(record.name, str) or not isinstance(record.measured, str):
        raise ValueError("expected a name and a time")
    return record._replace(name=catalogue.in_tables(record.name, str(fields.get("version", ""))))


def usual_examples(runs: Iterable[Sequence[Record]]) -> dict[str, int]:
    """Return, for each measurement, the number of examples that most networks were measured on; in a tie the largest.

    A value depends on its examples, so in a table that compares networks they should have as many.

    Args:
      runs: the records of each run.
    """
    counts: Counter[tuple[str, int]] = Counter()
    for records in runs:
        networks = {(record.name, record.num_examples, record.epoch) for record in records}
        counts.update((name, number) for name, number, _ in networks)
    ascending = sorted(counts.items(), key=lambda item: (item[1], item[0][1]))
    return {name: number for (name, number), _ in ascending}


def shown(records: Sequence[Record], usual: Mapping[str, int]) -> dict[tuple[str, float], Record]:
    """Choose one record per measurement and epoch: on the usual number of examples, else the most; the newest of these.

    Args:
      usual: of the table that the run belongs to, from `usual_examples`.
    """

    def rank(record: Record) -> tuple[bool, int, str]:
        return record.num_examples == usual.get(record.name), record.num_examples, record.measured

    return {(record.name, record.epoch): record for record in sorted(records, key=rank)}


def columns(
    records: Sequence[Record], usual: Mapping[str, int], *, training_seconds: float | None = None
) -> dict[str, float]:
    """Return the columns of the results table: `<measurement>.<value>` at the end, and the number of examples.

    Args:
      usual: as for `shown`.
      training_seconds: of the run; if the catalogue has `<measurement>.training_share`, it is the measuring time for
        all networks of the run divided by these.
    """
    cells = {}
    seconds: dict[str, float] = {}
    for record in shown(records, usual).values():
        if record.seconds is not None and catalogue.is_described(f"{record.name}.{_SHARE}"):
            seconds[record.name] = seconds.get(record.name, 0.0) + record.seconds
    for record in shown([record for record in records if record.is_final], usual).values():
        values = {name: value for name, value in record.values.items() if value is not None}
        cells |= {f"{record.name}.{name}": value for name, value in values.items()}
        cells[f"{record.name}.num_examples"] = record.num_examples
        if training_seconds and record.name in seconds:
            cells[f"{record.name}.{_SHARE}"] = seconds[record.name] / training_seconds
    return cells


def rows(run: str, records: Sequence[Record], usual: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Yield the rows of `measurements.csv`, in the order of measurement and epoch; `usual` as for `shown`."""
    chosen = shown(records, usual)
    for name, epoch in sorted(chosen):
        record = chosen[name, epoch]
        for quantity, value in record.values.items():
            yield {
                "run": run,
                "epoch": epoch,
                "measurement": name,
                "quantity": quantity,
                "value": value,
                "standard_error": record.errors.get(quantity),
            }


def _path(directory: RunDirectory, target: Wanted) -> Path:
    return directory.path / "measurements" / f"{target.stem}.json"


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **cast(dict[str, Any], arrays))
    return content.getvalue()
