"""The command `diagnose`: what may keep SAM from helping, from the files of runs, and what to try next."""

import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import arms, comparisons, fields, interpolation, planning, table
from flatwide.analysis import rho as radii
from flatwide.analysis.estimates import Estimate
from flatwide.analysis.widths import Width
from flatwide.checklist import Check, text
from flatwide.columns import DONE
from flatwide.config.parser import FlagParser
from flatwide.runs import commands
from flatwide.runs.directory import RunDirectory
from flatwide.runs.table import collect

if TYPE_CHECKING:
    from flatwide import sam
    from flatwide.runs.experiment import Experiment

USAGE = "python main.py diagnose W | W/runs/NAME"
_BATCHES = 4  # the first of training; their median is diagnosed
_MOST_SEEDS = 1000
_RATE = "learning_rate"
_SCALE_FREE = {"adaptive", "norm_layers"}


class Case(NamedTuple):
    """Runs to diagnose: a width of a part of a table, and a radius; NaN without a SAM run."""

    workdir: Path
    domain: table.Domain
    part: table.Part
    width: Width
    rho: float

    @property
    def directory(self) -> RunDirectory:
        """The first run at this width and radius, or at this width if there is no radius."""
        runs = fields.done(self.part.runs, ["run", "num_params"])
        here = (run for run in runs if run["num_params"] == self.width.num_params)
        name = next(run["run"] for run in here if math.isnan(self.rho) or fields.effective_rho(run) == self.rho)
        return RunDirectory(self.workdir / "runs" / name)

    @property
    def tuned(self) -> arms.Comparison | None:
        """The comparison of arms with their own learning rates; None where the runs allow none."""
        if _RATE not in self.domain.axes:
            return None
        tuned = self.domain.tuning((_RATE,)).tuned
        fitting = (part for part in tuned if part.settings.items() <= self.part.settings.items())
        compared = (each for part in fitting for each in part.comparisons if each.kind == comparisons.TUNED)
        return next((pair for each in compared for pair in each.widths if pair.width == self.width.value), None)

    def train(self, name: str, *values: Any) -> str:
        """Return the command that trains further values of a field into the same work directory."""
        recorded = [each.arguments for each in commands.read(self.workdir) if each.arguments[0].startswith("--")]
        last = recorded[-1] if recorded else (f"--workdir={self.workdir}", "--config=FILE")
        texts = [f"{value:.3g}" if isinstance(value, float) else repr(value) for value in values]
        return commands.with_axes(last, {name: f"({','.join(texts)}{',' * (len(texts) == 1)})"})


def command(arguments: list[str]) -> str:
    """Return the diagnosis of a work directory, or of one of its runs, as text for the terminal.

    Args:
      arguments: those after `diagnose`.
    Raises: ConfigError, FileNotFoundError, ValueError.
    """
    parser = FlagParser(USAGE, description=__doc__ or "", example="python main.py diagnose runs/demo")
    parser.add_argument("path", nargs="?", metavar="W | W/runs/NAME", help="a work directory, or one of its runs")
    flags = parser.parse_args(arguments)
    if not flags.path:
        parser.error("expected a work directory, or the directory of one of its runs")
    blocks = []
    for case in cases(Path(flags.path)):
        at = "no SAM run" if math.isnan(case.rho) else f"rho {case.rho:g}"
        where = ", ".join(filter(None, [case.part.name, f"{case.width.num_params:,} parameters", at]))
        blocks.append(f"{where}\n{text(list(examine(case)))}")
    return "\n\n".join(blocks)


def cases(path: Path) -> list[Case]:
    """List what to diagnose: of a work directory the largest width of each part at its best rho, or that of a run.

    Where the learning rate varies, only the parts at the rate that the base chooses are diagnosed.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{str(path)!r}: there is no such folder; expected a work directory or a run of one.")
    name = None if (path / "runs").is_dir() else path.resolve().name
    workdir = path if name is None else path.resolve().parent.parent
    runs = collect(workdir)
    if not any(run["status"] in DONE and name in (None, run["run"]) for run in fields.records(runs, ["run", "status"])):
        raise ValueError(f"{path}: expected a work directory with runs that are done, or such a run; train it first.")
    found = []
    for domain in table.split(runs).domains:
        for part in domain.every_part if name else domain.parts or domain.every_part:
            here = [run for run in fields.done(part.runs, ["run", "num_params"]) if name in (None, run["run"])]
            if not here:
                continue
            width = max(
                (each for each in part.widths if name is None or each.num_params == here[0]["num_params"]),
                key=lambda each: each.num_params,
            )
            tried = (fields.effective_rho(here[0]) if name else 0.0, width.best_rho, *width.rhos)
            rho = next((each for each in tried if each > 0), math.nan)
            case = Case(workdir=workdir, domain=domain, part=part, width=width, rho=rho)
            if name or (tuned := case.tuned) is None or part.settings.get(_RATE) == _choice(tuned):
                found.append(case)
    return found[:1] if name else found  # a base run may be in many parts


def examine(case: Case) -> Iterator[Check]:
    """Check one by one what may keep SAM from helping."""
    arms_there = {"base run (rho=0)": case.width.has_base, "SAM run": bool(case.width.rhos)}
    missing = " and ".join(name for name, is_there in arms_there.items() if not is_there)
    fix = case.train("rho", 0.0, 0.02, 0.05, 0.1, 0.2) if missing else _fit(case).fix if case.part.not_learned else ""
    found = f"no {missing}" if missing else f"base and SAM, {case.width.num_diverged} diverged"
    yield Check("runs", case.part.not_learned or found, "both, on the same seeds, that learned", fix)
    try:
        built = experiment(case.directory)
    except (ValueError, FileNotFoundError) as error:  # data or a file of the user that is gone
        reason = " ".join(str(error).split())
        yield Check("network", f"not built: {reason}", "the data and files that it was trained with", "restore them")
    else:
        yield _batch_norm(case, built)
        if case.rho > 0:
            yield _scale(case, built)
    if case.rho > 0:
        yield from (_grid(case), _seeds(case))
    yield from (_base(case), _fit(case), _decay(case), _perturbation(case))


def experiment(directory: RunDirectory) -> "Experiment":
    """Build the parts of a run, finished or not.

    Raises: ValueError, FileNotFoundError if its data or a file of the user are gone.
    """
    from flatwide.runs import jax_settings, load
    from flatwide.runs.build import build

    jax_settings.start(jax_settings.available_threads())
    return build(load.read_fields(directory), is_local=True)


def ascent(built: "Experiment") -> "sam.Ascent":
    """Diagnose the ascent of a run's rule at its initial network: the median of its first batches.

    With microbatches, that of the first microbatch of each.
    """
    import jax

    from flatwide import sam, trees

    state, rows = built.init(), built.config["microbatch"]

    @jax.jit
    def loss(params, batch):
        return built.loss(trees.apply_mask(params, state.mask), state.stats, batch, train=True)

    found = []
    for step in range(min(_BATCHES, built.steps_per_epoch)):
        batch = jax.tree.map(lambda leaf: leaf[:rows], built.batch(step))
        found.append(sam.diagnose(loss, state.params, batch, rho=built.config["rho"], rule=built.variant))
    return sorted(found, key=lambda each: each.relative_rise)[len(found) // 2]


def _scale(case: Case, built: "Experiment") -> Check:
    from flatwide import sam

    low, high = (f"{100 * end:g}" for end in sam.WORKING_RISES)
    name, expected = "scale of rho", f"{low} to {high} %, as at the best rho where SAM helps in studies"
    risen = ascent(built)
    if risen.perturbation_norm == 0:
        return Check(name, "not measured: the first perturbation of this rule is zero", expected)
    found = f"the first ascents raise the loss by {100 * risen.relative_rise:.2g} %"
    nearest = risen.rho_to_try if math.isfinite(risen.rho_to_try) else case.rho / 10
    tried = [nearest * factor for factor in ((1, 2, 4) if risen.scale == "low" else (0.25, 0.5, 1))]
    return Check(name, found, expected, case.train("rho", *tried) if risen.scale else "")


def _batch_norm(case: Case, built: "Experiment") -> Check:
    """Check for running averages of batch norm in the state of a network."""
    import jax

    from flatwide import trees

    states = [trees.path_name(path) for path, _ in jax.tree.leaves_with_path(built.state_shapes().stats)]
    variants = sorted({built.config["sam_variant"], *_values(case.domain, "sam_variant")})
    is_there = any(state.endswith("/mean") for state in states)
    found = f"present, with the rule {' and '.join(variants)}" if is_there else "none"
    is_open = is_there and _SCALE_FREE.isdisjoint(variants)
    fix = case.train("sam_variant", *sorted(_SCALE_FREE)) if is_open else ""
    return Check("batch norm", found, "none, or a rule that does not depend on the size of the weights before it", fix)


def _grid(case: Case) -> Check:
    rhos, edge = case.width.rhos, radii.grid_edge(case.width)
    found = f"best {case.width.best_rho:g} of {', '.join(f'{rho:g}' for rho in rhos)}"
    beyond = [rhos[0] / 4, rhos[0] / 2] * (edge != "high") + [rhos[-1] * 2, rhos[-1] * 4] * (edge != "low")
    fix = case.train("rho", *beyond) if edge or len(rhos) < 3 else ""
    return Check("grid of rho", found, "three values or more, and the best within them", fix)


def seeds_needed(gain: float, deviation: float) -> int | None:
    """Return the number of seeds at which a two-sided paired t test shows a gain in 80 % of studies.

    Args:
      gain: the mean difference. deviation: its standard deviation over seeds.
    Returns: None above 1,000.
    Equation: the least n whose smallest detectable gain, see `planning.detectable`, is |gain| or less.
    """
    if deviation == 0:
        return 2 if gain else None

    def detectable(count: int) -> float:
        return planning.detectable(Estimate(error=deviation / math.sqrt(count), degrees=count - 1, num_seeds=count))

    return next((count for count in range(2, _MOST_SEEDS + 1) if detectable(count) <= abs(gain)), None)


def _seeds(case: Case) -> Check:
    """Check how many seeds would show the gain: at the best rho each seed counts at the rho that the others choose."""
    width, write = case.width, case.part.units.amount
    is_chosen = case.rho == width.best_rho and width.comparison.is_usable
    every = width.comparison.scored.values[0] if is_chosen else width.gains[:, width.rhos.index(case.rho)]
    gains = [float(gain) for gain in every if math.isfinite(gain)]
    if len(gains) < 2:
        return Check("seeds", f"{len(gains)} pairs", "two or more", case.train("seed", 0, 1, 2))
    gain, deviation = statistics.fmean(gains), statistics.stdev(gains)
    needed = seeds_needed(gain, deviation)
    found = f"gain {write(gain)}, standard deviation {write(deviation).lstrip('+')} over {len(gains)} seeds"
    if needed is None:
        return Check("seeds", found, f"a gain that {_MOST_SEEDS:,} seeds would show; this one is practically zero")
    expected = f"{needed} seeds to show a gain of this size in {100 * planning.POWER:.0f} % of studies"
    return Check("seeds", found, expected, "" if len(gains) >= needed else case.train("seed", *range(needed)))


def _base(case: Case) -> Check:
    rates, tuned, fix = _values(case.domain, _RATE), case.tuned, ""
    found = f"learning rate {', '.join(f'{rate:g}' for rate in rates) or 'unknown'}"
    if tuned is not None:
        chosen = _choice(tuned)
        found = f"best {found.replace(' rate ', f' rate {chosen:g} of ')}"
        if edge := tuned.edges[0].get(_RATE):
            fix = case.train(_RATE, chosen / 3 if edge == "low" else 3 * chosen)
    elif len(rates) == 1:
        fix = case.train(_RATE, rates[0] / 3, rates[0], 3 * rates[0])
    return Check("base", found, "three values or more, and the base's best within them", fix)


def _choice(tuned: arms.Comparison) -> Any:
    return tuned.base.settings[tuned.chosen[0]][_RATE]


def _fit(case: Case) -> Check:
    row = next(row for row in interpolation.training_fit.rows(case.part) if row["num_params"] == case.width.num_params)
    share, metric = row["base_interpolates"], row["base_train_metric"]
    found = "unknown" if math.isnan(share) else f"{100 * share:.0f} % of the base's seeds fit them"
    if case.part.units.is_percent and not math.isnan(metric):
        found += f" (mean {100 * metric:.1f} %)"
    lengths = [(name, values[-1]) for name in fields.LENGTHS if (values := _values(case.part, name))][-1:]
    fix = case.train(lengths[0][0], 2 * lengths[0][1]) if share < 0.5 and lengths else ""
    return Check("training labels", found, "half or more; else a larger network, or longer training", fix)


def _decay(case: Case) -> Check:
    decays = _values(case.domain, "weight_decay")
    found = ", ".join(f"{decay:g}" for decay in decays) or "unknown"
    fix = ""
    if len(decays) == 1:
        fix = case.train("weight_decay", *((decays[0] / 4, 4 * decays[0]) if decays[0] else (1e-4, 1e-3)))
    return Check("weight decay", found, "several values: the base gains from it too, and SAM's gain depends on it", fix)


def _perturbation(case: Case) -> Check:
    sizes, batches = (_values(case.part, each) for each in ("microbatch", "batch_size"))
    batch = f"batch of {batches[-1]} examples" if batches else "batch"
    found = f"one for each {sizes[-1]} examples of a {batch}" if sizes else f"one for the whole {batch}"
    expected = "as in what you compare with; config.microbatch is a device's share where each has its own"
    return Check("perturbation", f"{found}, on any number of devices", expected)


def _values(of: table.Domain | table.Part, name: str) -> list[Any]:
    return sorted({run[name] for run in fields.done(of.runs, [name]) if run.get(name) is not None})
