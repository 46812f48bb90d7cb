"""The memory of runs on the devices of a worker, by their compiled programs, and the groups of runs that fit there."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from flatwide import config as configs
from flatwide import machine
from flatwide.runs import build, identity, jax_settings, memory, preview
from flatwide.runs.directory import run_directories
from flatwide.runs.parts import is_local
from flatwide.study import executors
from flatwide.study.executors import placement
from flatwide.study.plan import Plan, Planned

_MOST_TOGETHER = 1024  # runs of a group; more gain nothing on any device


class Fit(NamedTuple):
    """The largest group of runs that one program can train in the memory of a device.

    num_bytes: of its program; free: of the device, for this worker. larger: the next group that was tried, and the
    bytes of its program, which are more than are free; 0 if memory is no limit.
    """

    group_size: int
    num_bytes: int
    free: int
    larger: tuple[int, int] = (0, 0)


def fits(runs: Sequence[tuple[Mapping[str, Any], int]], study: Mapping[str, Any], *, workers: int = 1) -> list[Fit]:
    """Find the group size and the memory of runs, in a process with the devices of a worker.

    Args:
      runs: a resolved config, and the largest size of its group, a power of two; 1 keeps the config's size.
      study: the fields of `config.study`. workers: that share the memory of this machine, if they use its CPU.
    Raises: ConfigError with the words of a process that ended without an answer.
    """
    slots = placement.slots(study)
    environment = placement.environment(study, slots[0] if slots else ())
    if not environment:
        jax_settings.start(jax_settings.available_threads())  # workers find the programs in the cache
        return [_fit(config, most, workers) for config, most in runs]
    content = json.dumps({"runs": [[dict(config), most] for config, most in runs], "workers": workers}, default=list)
    # A worker takes its part of a GPU at once; this process takes what compiling needs.
    environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [sys.executable, "-m", "flatwide.study.sizing"]
    done = subprocess.run(command, input=content, capture_output=True, text=True, env=os.environ | environment)
    if done.returncode:
        said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise configs.ConfigError(f"config.study: the memory of its runs could not be determined: {said}")
    return [Fit(*each) for each in json.loads(done.stdout)]


def _fit(config: Mapping[str, Any], most: int, workers: int) -> Fit:
    built, free = preview.assemble(config), _free(workers)
    if most == 1 or not built.has_whole_epochs:
        return Fit(group_size=config["group_size"], num_bytes=memory.of_program(built), free=free)
    size, larger = most, (0, 0)
    while True:
        num_bytes = memory.of_program(preview.assemble({**config, "group_size": size}))
        if num_bytes <= free or size == 1:
            return Fit(group_size=size, num_bytes=num_bytes, free=free, larger=larger)
        # A program's memory grows at most in proportion to its runs, so no larger group than the next one fits.
        size, larger = min(size // 2, _power_of_two(size * free / num_bytes)), (size, num_bytes)


def _power_of_two(number: float) -> int:
    """Return the largest power of two up to a number, at least 1."""
    return 2 ** max(0, math.floor(math.log2(max(number, 1))))


def _free(workers: int) -> int:
    """Return the bytes of a device that a worker may take."""
    stats = None if (device := jax.local_devices()[0]).platform == "cpu" else device.memory_stats()
    if stats is None:
        return machine.free_memory() // workers
    return min([stats["bytes_limit"], *(facts.free for facts in machine.gpu_facts())])


def with_groups(planned: Plan, workdir: str | os.PathLike) -> Plan:
    """Set the group size of each run, and note why, if the study leaves it to the memory of a device.

    Runs that were trained keep their group, which is part of their identity; so do those of the same program, so that a
    study that is taken up again does not begin anew where more or less memory is free.
    """
    settings = planned.settings
    if settings.study["group_size"] is None:
        return planned
    shapes: dict[tuple, list[Planned]] = {}
    for run in planned.runs:
        shapes.setdefault(run.shape, []).append(run)
    workers = settings.workers or executors.find(settings.executor).capacity(settings.study, planned.threads)
    names = {run.name for run in run_directories(os.fspath(workdir))}
    earlier = {shape: _earlier(runs, names) for shape, runs in shapes.items()}
    most = {shape: _most(runs, workers) for shape, runs in shapes.items() if not earlier[shape]}
    found = fits([(shapes[shape][0].config, most[shape]) for shape in most], settings.study, workers=workers)
    chosen = dict(zip(most, found, strict=True))
    notes, grouped = [], {}
    for shape, runs in shapes.items():
        size = earlier[shape] or chosen[shape].group_size
        reason = "as in the work directory" if earlier[shape] else _reason(chosen[shape], most[shape])
        kind = "base" if configs.effective_rho(runs[0].config) == 0 else "SAM"
        notes.append(
            f"group_size={size} of {len(runs)} runs at width {identity.width(runs[0].config)}, {kind}: {reason}"
        )
        for run in runs:
            config = configs.resolve_fields({**run.config, "group_size": size})
            grouped[id(run)] = run._replace(config=config, shape=build.shape(config))
    return planned._replace(runs=tuple(grouped[id(run)] for run in planned.runs), notes=(*planned.notes, *notes))


def _most(runs: Sequence[Planned], workers: int) -> int:
    """Return the largest group that leaves no worker without one, as a power of two."""
    if runs[0].config["shard_parameters"]:
        return 1
    return min(_MOST_TOGETHER, _power_of_two(math.ceil(len(runs) / workers)))


def _earlier(runs: Sequence[Planned], names: Collection[str]) -> int:
    """Return the size of the group in which some of these runs were begun before; 0 if none was.

    Args:
      names: of the runs in the work directory.
    """
    for size in (2**exponent for exponent in range(_MOST_TOGETHER.bit_length())) if names else ():
        for run in runs:
            config = configs.resolve_fields({**run.config, "group_size": size})
            if is_local(config) and identity.locate(config, "")[0].name in names:
                return size
    return 0


def _reason(fit: Fit, most: int) -> str:
    needs = f"needs {preview.readable(fit.num_bytes)} of {preview.readable(fit.free)} that a worker has free"
    if fit.larger[0]:
        return f"{needs}; {fit.larger[0]} would need {preview.readable(fit.larger[1])}"
    if fit.group_size == most:
        return f"{needs}; more would leave a worker without runs"
    return f"{needs}; its epochs cannot be trained in one program"


if __name__ == "__main__":
    given = json.load(sys.stdin)
    jax_settings.start(jax_settings.available_threads())
    answers = [_fit(configs.resolve(config), most, given["workers"]) for config, most in given["runs"]]
    json.dump(answers, sys.stdout)
