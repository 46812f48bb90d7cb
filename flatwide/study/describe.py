"""Text that describes a plan: what is done, what is left, how long it takes and how much disk it needs."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flatwide import config as configs
from flatwide import machine, models, registry, trees
from flatwide.catalogue import entry, title
from flatwide.columns import DONE
from flatwide.runs import identity, preview, recording
from flatwide.runs.experiment import Experiment
from flatwide.runs.logs import duration_text, runs_text, say
from flatwide.study import sizing
from flatwide.study.executors import Share
from flatwide.study.inventory import REFUSED, UNMEASURED, Inventory, RunState
from flatwide.study.plan import Plan, Planned
from flatwide.study.settings import Part
from flatwide.training import devices

_MOST_COMPILED = 8  # programs for their memory: some seconds each
_SMALL_FILES = 24 * 1024  # bytes of a run's tables and JSON, in whole blocks of the disk


class Estimate:
    """Durations of runs, from finished runs of their shape, else in proportion to their arithmetic."""

    def __init__(self, stored: Inventory):
        self._costs: dict[tuple, float] = {}
        self._seen: dict[tuple, dict[str, float]] = {}
        self._compiling: dict[tuple, float] = {}
        for state in stored.states:
            if state.run.shape not in self._costs:
                sizes, batch_size = preview.sizes(state.run.config), state.run.config["batch_size"]
                passes = 1 if configs.effective_rho(state.run.config) == 0 else 2
                # Reading and shuffling make a step of a tiny network as long as one with ten thousand weights.
                cost = (trees.size(sizes.params) + 10_000) * batch_size * sizes.num_steps * passes
                self._costs[state.run.shape] = cost
            if state.seconds is not None:  # each run of a group trained together has the time of the whole group
                self.learn(state, state.seconds / state.run.config["group_size"])
        for shape, seen in self._seen.items():  # the first of a shape's runs has compiled for all
            self._compiling[shape] = max(seen.values()) - statistics.median_low(seen.values())

    def learn(self, state: RunState, seconds: float, *, compiling: float = 0.0) -> None:
        """Record how long a run took, and its compilation; a later call replaces an earlier one."""
        shape = state.run.shape
        self._seen.setdefault(shape, {})[state.directory.name] = seconds
        self._compiling[shape] = max(compiling, self._compiling.get(shape, 0.0))

    def cost(self, state: RunState) -> float:
        """Return the arithmetic of a run, in an arbitrary unit."""
        return self._costs[state.run.shape]

    @property
    def has_seen(self) -> bool:
        """Whether some run is done."""
        return any(self._seen.values())

    def seconds(self, shape: tuple) -> float | None:
        """Return the median duration of a shape's runs, the first of which compiled; None if none is done."""
        seen = self._seen.get(shape)
        return statistics.median_low(seen.values()) if seen else None

    def run_seconds(self, shape: tuple) -> float:
        """Estimate the seconds of a run; by its arithmetic if no run of its shape is done."""
        if (seen := self.seconds(shape)) is not None:
            return seen
        measured = {other: seconds for other in self._costs if (seconds := self.seconds(other)) is not None}
        return sum(measured.values()) / max(sum(self._costs[other] for other in measured), 1.0) * self._costs[shape]

    def left(self, counts: Mapping[tuple, int], *, workers: int, training: Sequence[tuple[tuple, float]] = ()) -> float:
        """Estimate the seconds until all of some runs have ended.

        Args:
          counts: number of runs of each shape. training: shape and age in seconds of those that have begun.
        """
        seconds = {shape: self.run_seconds(shape) for shape, count in counts.items() if count}
        remaining = [max(0.0, seconds[shape] - age) for shape, age in training if shape in seconds]
        if sum(counts.values()) <= len(remaining):
            return max(remaining, default=0.0)
        passed = sum(min(age, seconds[shape]) for shape, age in training if shape in seconds)
        new = seconds.keys() - self._seen.keys() - {shape for shape, _ in training}
        compiling = statistics.fmean(self._compiling.values()) if self._compiling else 0.0
        total = sum(counts[shape] * seconds[shape] for shape in seconds) - passed + compiling * len(new)
        return max(total / workers, *(seconds[shape] + compiling * (shape in new) for shape in seconds))


def heading(planned: Plan, stored: Inventory, *, num_workers: int, estimate: Estimate) -> list[str]:
    """Describe a study and its progress in a few lines."""
    counts = Counter(state.status for state in stored.states)
    num_to_do = len(stored.to_do())
    states = [f"{sum(counts[status] for status in DONE)} done", f"{num_to_do} to do"]
    others = ("unfinished", "failed", UNMEASURED, *REFUSED)
    states += [f"{counts[status]} {status}" for status in others if counts[status]]
    if counts["unknown"]:
        states = ["how many are done cannot be determined until the data are downloaded"]
    lines = [f"study of {runs_text(len(stored.states))}: {', '.join(states)}"]
    lines += [_part_text(part, planned) for part in planned.settings.parts]
    lines += list(planned.notes)
    if stored.others:
        lines.append(f"kept: {runs_text(len(stored.others))} outside this study, such as {stored.others[0]}")
    if machine.gpus() and all(run.config["group_size"] == 1 for run in planned.runs) and len(stored.states) > 1:
        lines.append("note: this machine has a GPU; --config.group_size=16 trains 16 runs at once (docs/studies.md).")
    measured = dict.fromkeys(text for run in planned.runs if (text := preview.measurements_text(run.config)))
    lines += [f"measured {text}" for text in measured]
    if left := to_train(stored.to_do()):
        unseen = sum(estimate.seconds(shape) is None for shape in left)
        time = duration_text(estimate.left(left, workers=num_workers))
        if not estimate.has_seen:
            time = "unknown until runs of some shape are done"
        elif unseen:
            time = f"about {time}, of which {unseen} groups are estimated from their arithmetic"
        time += ", measuring not counted" if any(run.config["measurements"] for run in planned.runs) else ""
        lines.append(f"estimated time: {time} ({num_workers} workers)")
    return lines


def to_train(tasks: Iterable[RunState]) -> Counter[tuple]:
    """Count the runs of each shape that are not trained yet; those that only lack measurements are left out."""
    return Counter(state.run.shape for state in tasks if state.status != UNMEASURED)


def _part_text(part: Part, planned: Plan) -> str:
    """Describe what a part varies, and in how many runs."""
    axes = [f"{name} ({len(values)})" for name, values in part.axes.items()]
    axes = ([f"points ({len(part.points)})"] if part.points else []) + axes
    text = " × ".join(axes) + (f", {len(part.exclude)} exclusions" if part.exclude else "")
    if not part.name:
        return f"axes: {text}"
    return f"part {part.name}: {text or 'one run'}, {runs_text(sum(run.part == part.name for run in planned.runs))}"


def groups(stored: Inventory, estimate: Estimate) -> list[str]:
    """List the groups: runs of one shape, which share a compiled program."""
    by_shape: dict[tuple, list[RunState]] = {}
    for state in stored.states:
        by_shape.setdefault(state.run.shape, []).append(state)
    has_parts = any(state.run.part for state in stored.states)
    rows = [
        (*(["part"] if has_parts else []), "width", "program", "parameters", "steps", "runs", "to do", "seconds a run")
    ]
    for shape, members in by_shape.items():
        config = members[0].run.config
        sizes = preview.sizes(config)
        seconds = estimate.seconds(shape)
        rows.append(
            (
                *([members[0].run.part] if has_parts else []),
                str(identity.width(config)),
                "base" if configs.effective_rho(config) == 0 else "SAM",
                f"{trees.size(sizes.params):,}",
                f"{sizes.num_steps:,}",
                str(len(members)),
                str(sum(state.status not in (*DONE, *REFUSED) for state in members)),
                "unknown" if seconds is None else f"{seconds:.2g}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [f"groups of one program: {len(by_shape)}", *lines]


def memory(stored: Inventory, share: Share, study: Mapping[str, Any]) -> list[str]:
    """Tell the memory of the most demanding program, and warn of what the devices of a worker cannot hold or share.

    Of runs that differ in the size of their network alone, only the largest is compiled, and of these only those with
    the most parameters and examples a batch, which keeps this fast.
    """
    sample = {run.shape: run for run in (state.run for state in stored.to_do())}
    if not sample:
        return [share.text] if share.text else []
    largest: dict[tuple, tuple[int, Mapping[str, Any]]] = {}
    for run in sample.values():
        size, settings = trees.size(preview.sizes(run.config).params), _settings(run)
        if settings not in largest or size > largest[settings][0]:
            largest[settings] = size, run.config
    demanding = sorted(largest.values(), key=lambda each: each[0] * each[1]["batch_size"] * each[1]["group_size"])
    runs = [config for _, config in demanding[-_MOST_COMPILED:]]
    say("compiling the largest programs, for their memory; this may take a minute")
    fits = sizing.fits([(config, 1) for config in runs], study)
    fit, config = max(zip(fits, runs, strict=True), key=lambda each: each[0].num_bytes)
    num_devices = share.num_devices or devices.count(devices.over_devices())
    where = f" of each of {num_devices} devices" if num_devices > 1 else ""
    text = f"expected memory: up to {preview.readable(fit.num_bytes)}{where}, at width {identity.width(config)}"
    faults = dict.fromkeys(fault for run in sample.values() if (fault := preview.device_fault(run.config, num_devices)))
    if share.num_bytes is not None:
        text += f"; a worker may take {preview.readable(share.num_bytes)} of a device"
        if fit.num_bytes > share.num_bytes:
            faults[
                "this may not fit. config.accumulation_steps=4 needs less, and so do fewer workers_per_gpu, or "
                "config.shard_parameters=True with more devices_per_run."
            ] = None
    return [*([share.text] if share.text else []), text, *(f"warning: {fault}" for fault in faults)]


def _settings(run: Planned) -> tuple:
    """Return the shape of a run without the fields of its model: what memory depends on besides the network's size."""
    builder = registry.find("config.model", run.config["model"], models.MODELS)
    fields = registry.fields(builder)
    return tuple((name, value) for name, value in run.shape if name not in fields)


def disk(stored: Inventory) -> list[str]:
    """Estimate the disk space of a finished study: each run keeps one state at its end, and up to three before."""
    sample, least, most = {state.run.shape: state.run for state in stored.states}, 0, 0
    for shape, count in Counter(state.run.shape for state in stored.states).items():
        built = preview.assemble(sample[shape].config)
        state = built.state_shapes()
        snapshots = len(built.snapshot_steps) * trees.num_bytes(recording.snapshot(state))
        least += count * (_SMALL_FILES + snapshots + array_bytes(built) + trees.num_bytes(state))
        most += count * 2 * trees.num_bytes(state)
    return [
        f"disk: {preview.readable(least)} if each run ends within a checkpoint interval, else up to "
        f"{preview.readable(least + most)}"
    ]


def array_bytes(built: Experiment) -> int:
    """Count the bytes of measured arrays with an entry for each parameter, at all snapshots and the end."""
    arrays_per_network = sum(entry(title(name)).num_param_arrays for name in built.config["measurements"])
    return (len(built.snapshot_steps) + 1) * arrays_per_network * trees.num_bytes(built.param_shapes)
