"""The command `compare`: a report card for SAM rules, ours and yours, at equal steps and at equal gradients.

Three domains that need no download, a small and a large width each, every rule at its own best radius. The radii of a
rule are those at which its perturbations are as long as those of `normalized`, so nobody has to know its scale.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flatwide import config as configs
from flatwide import registry, sam
from flatwide.analysis import fields, intervals, ranking
from flatwide.config.parser import FlagParser
from flatwide.runs.logs import say
from flatwide.runs.table import collect

USAGE = """python main.py compare --workdir=W --rules=normalized,friendly,path/to/mine.py:rule [--seeds=8] [--workers=N]
                          [--dry_run]
Rank SAM rules in three domains at two widths each, every rule at its own best radius, at equal steps and at equal
gradients. Three rules with 8 seeds are some 1,000 runs of about a second each; rerun the command to resume it."""

_LENGTHS = (0.02, 0.05, 0.1, 0.2, 0.4)  # of perturbations: the radii of `normalized`
_SEEDS = 8
_HALVINGS = 20

# Each has an accuracy, so that gains add up, and a base optimizer of its own.
DOMAINS: dict[str, dict[str, Any]] = {
    "wrong_labels": {
        "model": "MLP",
        "dataset": "digits",
        "label_noise": 0.5,
        "learning_rate": 0.05,
        "batch_size": 32,
        "num_epochs": 60,
        "axes": {"num_neurons": ((16,), (128,))},
    },
    "tags": {
        "model": "TaggingTransformer",
        "num_layers": 1,
        "dataset": "made_tagging",
        "base_optimizer": "adamw",
        "adam_betas": (0.9, 0.98),
        "adam_epsilon": 1e-9,
        "weight_decay": 0.1,
        "learning_rate": 3e-3,
        "lr_scheduler": "constant",
        "batch_size": 64,
        "num_epochs": 10,
        "axes": {"hidden_size": (8, 32)},
    },
    "reviews": {
        "model": "LSTM",
        "dataset": "made_sentiment",
        "dropout": 0.2,
        "base_optimizer": "adam",
        "learning_rate": 0.01,
        "lr_scheduler": "constant",
        "batch_size": 64,
        "num_epochs": 8,
        "axes": {"hidden_size": (8, 32)},
    },
}


def command(arguments: list[str], *, train: Callable[[Mapping[str, Any], str], int]) -> tuple[str, int]:
    """Compare rules, and write `comparison.md` into the work directory.

    Args:
      arguments: what follows `compare`.
      train: trains a study, given its config and work directory, and gives the exit code.
    Returns: the page as text, and the exit code.
    Raises: ConfigError, DataError, ValueError.
    """
    parser = FlagParser(USAGE)
    parser.add_argument("--workdir")
    parser.add_argument("--rules", type=lambda text: tuple(filter(None, text.split(","))))
    parser.add_argument("--seeds", type=int, default=_SEEDS)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--dry_run", action="store_true")
    flags = parser.parse_args(arguments)
    if flags.help:
        return USAGE, 0
    if not flags.workdir or not flags.rules:
        parser.error("compare which rules, and where? Give --workdir and --rules")
    if flags.workers is not None and flags.workers < 1:
        parser.error(f"--workers={flags.workers}: expected 1 or more")
    if flags.seeds < 2:
        parser.error(f"--seeds={flags.seeds}: expected 2 or more, for intervals")
    rules = tuple(dict.fromkeys(map(registry.absolute, flags.rules)))
    say("finding the radii at which all rules perturb as far as SAM ...")
    radii = {domain: {rule: radii_of(rule, domain) for rule in rules} for domain in DOMAINS}
    config = study(rules, radii, num_seeds=flags.seeds, workers=flags.workers)
    if flags.dry_run:
        from flatwide.study import command as study_command

        return study_command.dry_run(config, flags.workdir), 0
    if code := train(config, flags.workdir):
        return "the study is not done; the same command finishes it.", code
    text = page(collect(flags.workdir), rules, radii, num_seeds=flags.seeds)
    Path(flags.workdir, "comparison.md").write_text(text, encoding="utf-8")
    return text, 0


def study(
    rules: Sequence[str],
    radii: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    num_seeds: int,
    workers: int | None = None,
) -> dict[str, Any]:
    """Return the config whose study trains all that is compared.

    Args:
      radii: domain -> rule -> radii.
    """
    parts = {}
    for domain, given in DOMAINS.items():
        values = {name: value for name, value in given.items() if name not in ("axes", "num_epochs")}
        once, twice = given["num_epochs"], 2 * given["num_epochs"]
        points = [
            {"sam_variant": "normalized", "rho": 0.0, "num_epochs": length}  # the base optimizer
            for length in (once, twice)
        ]
        for rule in rules:
            lengths = (once, twice) if takes_one_gradient(rule) else (once,)
            points += [
                {"sam_variant": rule, "rho": rho, "num_epochs": length}
                for length in lengths
                for rho in radii[domain][rule]
            ]
        axes = given["axes"] | {"seed": tuple(range(num_seeds))}
        parts[domain] = values | {"points": tuple(points), "axes": axes}
    settings: dict[str, Any] = {"parts": parts}
    return {"optimizer": "sam", "study": settings | ({"workers": workers} if workers else {})}


def _variant(rule: str, domain: str) -> tuple[dict[str, Any], Callable[..., sam.AscentRule]]:
    """Resolve the config of a rule in a domain, at its smaller width, and return the rule's builder."""
    from flatwide.runs import parts

    given = DOMAINS[domain]
    values = {name: value for name, value in given.items() if name != "axes"}
    values |= {name: sizes[0] for name, sizes in given["axes"].items()}
    config = dict(configs.resolve(values | {"optimizer": "sam", "sam_variant": rule, "rho": 1e-3}))
    return config, parts.variant_of(config)


def takes_one_gradient(rule: str) -> bool:
    """Whether a step of a rule costs one gradient, as one of the base optimizer does."""
    return not _variant(rule, next(iter(DOMAINS)))[1](1e-3).needs_clean_gradient


def radii_of(rule: str, domain: str) -> tuple[float, ...]:
    """Find the radii at which the perturbations of a rule are as long as those of `normalized`.

    Its length at a radius is the median over the networks of the first epoch of the base optimizer.

    Raises: ConfigError if the rule cannot perturb a domain's network, or no radius gives a length.
    Cost: two gradients a step of an epoch for all rules, and a hundred perturbations a step for each.
    """
    if rule == "normalized":
        return _LENGTHS
    measured = _lengths(rule, domain)
    return tuple(_solve(measured, length, rule=rule, domain=domain) for length in _LENGTHS)


@functools.lru_cache(maxsize=len(DOMAINS))
def _first_epoch(domain: str) -> list[tuple[Any, Any]]:
    """Train the base optimizer for an epoch; return the gradient and the parameters at each step."""
    import jax

    from flatwide.experiment import build

    experiment = build(_variant("normalized", domain)[0] | {"rho": 0.0})
    gradient_of = jax.jit(jax.grad(experiment.loss))
    state, found = experiment.init(), []
    for step in range(experiment.steps_per_epoch):
        batch = experiment.batch(step)
        gradient = gradient_of(state.params, state.stats, batch)
        found.append(jax.tree.map(np.array, (gradient, state.params)))  # a step uses its state's memory
        state, _ = experiment.train_step(state, batch)
    return found


def _lengths(rule: str, domain: str) -> Callable[[float], float]:
    """Return the median length of a rule's perturbation over the networks of an epoch, as a function of the radius.

    A rule that remembers is shown the gradients in their order, as if the perturbations were tiny.
    """
    import jax
    import jax.numpy as jnp

    from flatwide import trees

    chosen = _variant(rule, domain)[1](1e-3)

    @jax.jit
    def remember(gradient, params, state):
        _, state = chosen.perturb(gradient, params, state, 1e-3)
        return chosen.combine(gradient, gradient, params, state)[1]

    try:
        probes, state = [], chosen.init(_first_epoch(domain)[0][1])
        for gradient, params in _first_epoch(domain):
            probes.append((gradient, params, state))
            state = remember(gradient, params, state)
    except ValueError as error:
        raise configs.ConfigError([f"--rules: {rule} cannot be compared on {domain}: {error}"]) from error
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *probes)

    @jax.jit
    def length(rho):
        def norm(probe):
            gradient, params, state = probe
            return trees.norm(chosen.perturb(gradient, params, state, rho)[0])

        return jnp.median(jax.vmap(norm)(stacked))

    return lambda rho: float(length(rho))


def _solve(measured: Callable[[float], float], length: float, *, rule: str, domain: str) -> float:
    """Find the radius of a length by halving an interval in the logarithm."""
    low, high = 1e-6, 1e6
    if not measured(low) < length < measured(high):
        raise configs.ConfigError(
            [
                f"--rules: {rule} has perturbations of length {measured(low):.3g} to {measured(high):.3g} on {domain} "
                f"at radii of {low:g} to {high:g}; expected {length:g} between them. Its length must grow with rho."
            ]
        )
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if measured(middle) < length else (low, middle)
    return float(f"{math.sqrt(low * high):.3g}")


def cells(
    runs: Any, rules: Sequence[str], radii: Mapping[str, Mapping[str, Sequence[float]]], *, num_seeds: int, equal: str
) -> list[ranking.Cell]:
    """Arrange the runs of each domain and width.

    Args:
      equal: "steps", where all are as long, or "gradients", where what takes one gradient a step is twice as long.
    """
    found = []
    rows = fields.done(runs, ["dataset", "num_params", "num_epochs", "sam_variant", "seed", "test_metric"])
    metrics = {_key(row): row["test_metric"] for row in rows}
    takes_one = {rule: takes_one_gradient(rule) for rule in rules}
    for domain, given in DOMAINS.items():
        once = given["num_epochs"]
        of_one = once if equal == "steps" else 2 * once
        dataset = given["dataset"]
        for size in sorted({int(row["num_params"]) for row in rows if row["dataset"] == dataset}):

            def column(*run: Any, at: tuple = (dataset, size)) -> list[float]:
                values = [metrics.get((*at, *run, seed)) for seed in range(num_seeds)]
                return [math.nan if value is None else value for value in values]

            tables = {
                rule: np.array(
                    [column(rule, rho, of_one if takes_one[rule] else once) for rho in radii[domain][rule]]
                ).T
                for rule in rules
            }
            found.append(
                ranking.Cell(
                    name=f"{domain}, {size:,} parameters",
                    base=np.array(column(None, 0.0, of_one)),
                    rules=tables,
                    radii=radii[domain],
                )
            )
    return found


def _key(row: dict[str, Any]) -> tuple:
    """Return what tells a run of the comparison from the others; base runs have no rule."""
    size, length, seed = (int(row[name]) for name in ("num_params", "num_epochs", "seed"))
    return row["dataset"], size, row["sam_variant"], fields.effective_rho(row), length, seed


def page(runs: Any, rules: Sequence[str], radii: Mapping[str, Mapping[str, Sequence[float]]], *, num_seeds: int) -> str:
    """Write the comparison as Markdown: a table of gains a domain and width, and the ranks that the data can tell."""
    lines = [
        "# Comparison of SAM rules",
        "",
        f"Test accuracy of the last epoch, {num_seeds} seeds. Every seed is scored at the radius that the other seeds "
        "choose for the rule; gains over the base optimizer in points. The intervals of a table hold together in 95 % "
        "of comparisons (Šidák). `→` and `←` mark a best radius at the end of what was tried.",
    ]
    for equal, explanation in (
        ("steps", "Every rule and the base take as many steps."),
        ("gradients", "What takes one gradient a step, the base among it, is trained for twice as many steps."),
    ):
        arranged = cells(runs, rules, radii, num_seeds=num_seeds, equal=equal)
        lines += ["", f"## Equal {equal}", "", explanation, "", *_gains(arranged, rules), "", *_ranks(arranged)]
    return "\n".join(lines) + "\n"


def _gains(arranged: Sequence[ranking.Cell], rules: Sequence[str]) -> list[str]:
    """Write the gain of each rule in each cell."""
    from flatwide.analysis import selection

    level = intervals.sidak(len(arranged) * len(rules))
    lines = [f"| | base, % | {' | '.join(map(_short, rules))} |", f"|---|---|{'---|' * len(rules)}"]
    for cell in arranged:
        texts = []
        for rule in rules:
            scored = ranking.scores(cell, rule)
            if scored is None:
                texts.append("a run of each radius diverged")
                continue
            values, radius = scored
            count = len(cell.radii[rule])
            stretch = selection.stretch_of_scores(len(values), count, ratio=0.0, level=level)  # the widest case
            gain = intervals.mean(100 * (values - cell.base), level=level, stretch=stretch)
            edge = {min(cell.radii[rule]): "←", max(cell.radii[rule]): "→"}.get(radius, "")
            texts.append(f"{gain.mean:+.1f} ({gain.low:+.1f} to {gain.high:+.1f}), rho {radius:g}{edge}")
        lines.append(f"| {cell.name} | {100 * cell.base.mean():.1f} | {' | '.join(texts)} |")
    return lines


def _ranks(arranged: Sequence[ranking.Cell]) -> list[str]:
    """Write the ranks of all rules over all cells."""
    standings = ranking.rank(arranged)
    lines = ["| rank | rule | mean gain, points |", "|---|---|---|"]
    for one in standings:
        ranks = f"{one.first}" if one.first == one.last else f"{one.first} to {one.last}"
        gain = one.gain
        text = (
            "–"
            if one.name == ranking.BASE
            else f"{100 * gain.mean:+.2f} ({100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
        )
        lines.append(f"| {ranks} | {_short(one.name)} | {text} |")
    if all(one.first == 1 and one.last == len(standings) for one in standings):
        lines += ["", "The data order no two of them."]
    return lines


def _short(rule: str) -> str:
    """Name a rule of a user's own by its file and function."""
    return f"{Path(registry.own_file(rule)).name}:{rule.rpartition(':')[2]}" if registry.is_own_file(rule) else rule
