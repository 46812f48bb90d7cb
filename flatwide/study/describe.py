"""Put a plan into words: what is done, what is to do, how long it takes and how much disk."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flatwide import config as configs
from flatwide import machine, trees
from flatwide.catalogue import entry, title
from flatwide.columns import DONE
from flatwide.runs import identity, preview, snapshots
from flatwide.runs.jax_settings import is_double
from flatwide.runs.logs import duration_text
from flatwide.study.inventory import REFUSED, UNMEASURED, Inventory, Known
from flatwide.study.plan import Plan, Planned
from flatwide.study.settings import Part

_SMALL_FILES = 24 * 1024  # bytes of a run's tables and JSON, in whole blocks of the disk


class Estimate:
    """How long runs take: as long as others of their shape did, else in proportion to their arithmetic."""

    def __init__(self, found: Inventory):
        self._costs: dict[tuple, float] = {}
        self._seen: dict[tuple, dict[str, float]] = {}
        for known in found.known:
            if known.run.shape not in self._costs:
                self._costs[known.run.shape] = _cost(known.run)
            if known.seconds is not None:  # of a group that advanced together, each has the time of all
                self.learn(known, known.seconds / known.run.config["group_size"])

    def learn(self, known: Known, seconds: float) -> None:
        """Take in how long a run took, by the best that is known of it so far."""
        self._seen.setdefault(known.run.shape, {})[known.directory.name] = seconds

    def cost(self, known: Known) -> float:
        """Give the arithmetic of a run, in a unit of no meaning."""
        return self._costs[known.run.shape]

    @property
    def has_seen(self) -> bool:
        """Tell whether some run is done."""
        return any(self._seen.values())

    def seconds(self, shape: tuple) -> float | None:
        """Give the median of the runs of a shape, the first of which has compiled; None if none is done."""
        seen = self._seen.get(shape)
        return statistics.median_low(seen.values()) if seen else None

    def run_seconds(self, shape: tuple) -> float:
        """Estimate the seconds of a run; of a shape not seen yet by its arithmetic."""
        if (seen := self.seconds(shape)) is not None:
            return seen
        known = {other: seconds for other in self._costs if (seconds := self.seconds(other)) is not None}
        return sum(known.values()) / max(sum(self._costs[other] for other in known), 1.0) * self._costs[shape]

    def left(self, left: Mapping[tuple, int], *, workers: int, training: Sequence[tuple[tuple, float]] = ()) -> float:
        """Estimate the seconds until the last of some runs has ended.

        Args:
          left: how many of each shape. training: shape and age in seconds of those among them that have begun.
        """
        seconds = {shape: self.run_seconds(shape) for shape, count in left.items() if count}
        remaining = [max(0.0, seconds[shape] - age) for shape, age in training if shape in seconds]
        if sum(left.values()) <= len(remaining):
            return max(remaining, default=0.0)
        passed = sum(min(age, seconds[shape]) for shape, age in training if shape in seconds)
        total = sum(count * seconds[shape] for shape, count in left.items() if count) - passed
        return max(total / workers, *seconds.values())


def heading(planned: Plan, found: Inventory, *, num_workers: int, estimate: Estimate) -> list[str]:
    """Say in some lines what a study is and how far it is."""
    counts = Counter(known.status for known in found.known)
    num_to_do = len(found.to_do())
    states = [f"{sum(counts[status] for status in DONE)} done", f"{num_to_do} to do"]
    others = ("unfinished", "failed", UNMEASURED, *REFUSED)
    states += [f"{counts[status]} {status}" for status in others if counts[status]]
    if counts["unknown"]:
        states = ["how many are done is known once the data are here"]
    lines = [f"study of {len(found.known)} runs: {', '.join(states)}"]
    lines += [_part_text(part, planned) for part in planned.settings.parts]
    lines += list(planned.notes)
    if found.others:
        lines.append(f"kept: {len(found.others)} runs here are no part of this study, such as {found.others[0]}")
    if machine.has_gpu() and all(run.config["group_size"] == 1 for run in planned.runs) and len(found.known) > 1:
        lines.append("note: this machine has a GPU; --config.group_size=16 advances 16 runs at once (docs/studies.md).")
    lines += list(dict.fromkeys(text for run in planned.runs if (text := _measured_text(run.config))))
    if left := to_train(found.to_do()):
        unseen = sum(estimate.seconds(shape) is None for shape in left)
        time = duration_text(estimate.left(left, workers=num_workers))
        if not estimate.has_seen:
            time = "unknown until runs of some shape are done"
        elif unseen:
            time = f"about {time}, of which {unseen} groups are estimated by their arithmetic"
        time += ", measuring not counted" if any(run.config["measurements"] for run in planned.runs) else ""
        lines.append(f"estimated time: {time} ({num_workers} workers)")
    return lines


def to_train(tasks: Iterable[Known]) -> Counter[tuple]:
    """Count the runs of each shape that are not trained yet; those that are only measured take another time."""
    return Counter(known.run.shape for known in tasks if known.status != UNMEASURED)


def _part_text(part: Part, planned: Plan) -> str:
    """Say what a part varies, and in how many runs."""
    axes = [f"{name} ({len(values)})" for name, values in part.axes.items()]
    axes = ([f"points ({len(part.points)})"] if part.points else []) + axes
    text = " × ".join(axes) + (f", {len(part.exclude)} exclusions" if part.exclude else "")
    if not part.name:
        return f"axes: {text}"
    return f"part {part.name}: {text or 'one run'}, {sum(run.part == part.name for run in planned.runs)} runs"


def _measured_text(config: Mapping[str, Any]) -> str:
    if not config["measurements"]:
        return ""
    along = f" and at epochs {', '.join(map(str, config['measure_epochs']))}" if config["measure_epochs"] else ""
    along += f" and every {config['measure_every_steps']} steps" if config["measure_every_steps"] else ""
    return f"measured at the end{along}: {', '.join(map(title, config['measurements']))}"


def groups(found: Inventory, estimate: Estimate) -> list[str]:
    """List the groups: runs of one shape, which share a compiled program."""
    by_shape: dict[tuple, list[Known]] = {}
    for known in found.known:
        by_shape.setdefault(known.run.shape, []).append(known)
    has_parts = any(known.run.part for known in found.known)
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
                str(sum(known.status not in (*DONE, *REFUSED) for known in members)),
                "unknown" if seconds is None else f"{seconds:.2g}",
            )
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [f"groups of one program: {len(by_shape)}", *lines]


def disk(found: Inventory) -> list[str]:
    """Estimate the disk that a finished study takes."""
    shapes = Counter(known.run.shape for known in found.known)
    sample = {known.run.shape: known.run for known in found.known}
    small = {shape: _SMALL_FILES + _snapshot_bytes(run) + array_bytes(run.config) for shape, run in sample.items()}
    least = sum(count * (_state_bytes(sample[shape]) + small[shape]) for shape, count in shapes.items())
    most = sum(count * (3 * _state_bytes(sample[shape]) + small[shape]) for shape, count in shapes.items())
    least, most = preview.readable(least), preview.readable(most)
    return [f"disk: {least} if each run ends within a checkpoint interval, else up to {most}"]


def _snapshot_bytes(run: Planned) -> int:
    """Count the bytes of the networks that a run keeps besides its checkpoints."""
    sizes, number = preview.sizes(run.config), 8 if is_double() else 4
    is_adam = configs.base_optimizer(run.config) != "sgd"  # whose average of squared gradients is kept too
    itemsize = number * (1 + is_adam) + (run.config["sparsity"] > 0)
    kept = snapshots.wanted(run.config, num_steps=sizes.num_steps, steps_per_epoch=sizes.steps_per_epoch)
    return len(kept) * trees.size(sizes.params) * itemsize


def array_bytes(config: Mapping[str, Any]) -> int:
    """Count the bytes of measured arrays with an entry for each parameter, at all snapshots and the end."""
    arrays_per_network = sum(entry(title(name)).num_param_arrays for name in config["measurements"])
    sizes, itemsize = preview.sizes(config), 8 if is_double() else 4
    steps = snapshots.wanted(config, num_steps=sizes.num_steps, steps_per_epoch=sizes.steps_per_epoch)
    return (len(steps) + 1) * arrays_per_network * trees.size(sizes.params) * itemsize


def _state_bytes(run: Planned) -> int:
    """Count the bytes of a checkpoint: parameters, optimizer state and mask."""
    config, params = run.config, preview.sizes(run.config).params
    itemsize = 8 if is_double() else 4
    own = trees.size(params) * (itemsize + (config["sparsity"] > 0))
    return own + preview.optimizer_bytes(config, params)


def _cost(run: Planned) -> float:
    sizes = preview.sizes(run.config)
    passes = 1 if configs.effective_rho(run.config) == 0 else 2
    # A step of a tiny network is as long as that of one with some ten thousand weights: reading and shuffling.
    return (trees.size(sizes.params) + 10_000) * run.config["batch_size"] * sizes.num_steps * passes
