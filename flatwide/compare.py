"""The command `compare`: a ranking of SAM rules, built-in or yours, at equal steps and at equal gradients.

It has three domains that need no download, each with a small and a large width, and every rule at its best radius. The
radii of a rule are those at which its perturbations are as long as those of `normalized`, so its scale may be unknown.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flatwide import config as configs
from flatwide import registry, sam
from flatwide.analysis import arms, estimates, fields, ranking
from flatwide.config.parser import FlagParser
from flatwide.runs.logs import say
from flatwide.runs.table import collect

USAGE = """python main.py compare --workdir=W --rules=normalized,friendly,path/to/mine.py:rule [--seeds=8] [--workers=N]
                          [--dry_run]"""
_DESCRIPTION = """Rank SAM rules in three domains at two widths each, every rule at its best radius, at equal steps and
at equal gradients. Three rules with 8 seeds are some 1,000 runs of about a second each; rerun the command to resume
it."""

_LENGTHS = (0.02, 0.05, 0.1, 0.2, 0.4)  # of perturbations: the radii of `normalized`
_SEEDS = 8
_HALVINGS = 20
_NOTE = (
    "The radii of rules other than `normalized` are found before training; this plan has those of `normalized` in "
    "their place, so it counts runs at other radii as to do."
)

# Each has an accuracy as its metric, so that gains are comparable, and its own base optimizer.
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
      arguments: those after `compare`.
      train: trains a study, given its config and work directory, and returns the exit code.
    Returns: the page as text, and the exit code.
    Raises: ConfigError, DataError, ValueError.
    """
    parser = _parser()
    flags = parser.parse_args(arguments)
    if flags.help:
        return parser.format_help().rstrip(), 0
    if not flags.workdir or not flags.rules:
        parser.error("expected --workdir and --rules")
    if flags.workers is not None and flags.workers < 1:
        parser.error(f"--workers={flags.workers}: expected 1 or more")
    if flags.seeds < 2:
        parser.error(f"--seeds={flags.seeds}: expected 2 or more, for intervals")
    unknown = [rule for rule in flags.rules if not registry.is_own_file(rule) and rule not in sam.VARIANTS]
    if unknown:
        raise configs.ConfigError([registry.unknown("--rules", rule, sam.VARIANTS) for rule in unknown])
    rules = tuple(dict.fromkeys(map(registry.absolute, flags.rules)))
    if flags.dry_run:
        from flatwide.study import command as study_command

        # The number of runs and their cost do not depend on the radii.
        placeholders = {domain: dict.fromkeys(rules, _LENGTHS) for domain in DOMAINS}
        config = study(rules, placeholders, num_seeds=flags.seeds, workers=flags.workers)
        return f"{study_command.dry_run(config, flags.workdir)}\n{_NOTE}", 0
    radii = _search(rules)
    config = study(rules, radii, num_seeds=flags.seeds, workers=flags.workers)
    if code := train(config, flags.workdir):
        return "the study is not done; rerun the same command to finish it.", code
    text = page(collect(flags.workdir), rules, radii, num_seeds=flags.seeds)
    Path(flags.workdir, "comparison.md").write_text(text, encoding="utf-8")
    return text, 0


def _search(rules: Sequence[str]) -> dict[str, dict[str, tuple[float, ...]]]:
    """Find the radii of each rule in each domain, and print them."""
    say("searching for the radii at which all rules perturb as far as SAM, from an epoch of each domain ...")
    radii: dict[str, dict[str, tuple[float, ...]]] = {domain: {} for domain in DOMAINS}
    for domain in DOMAINS:
        for rule in rules:
            radii[domain][rule] = radii_of(rule, domain)
            say(f"radii on {domain}, {_short(rule)}: {', '.join(f'{radius:g}' for radius in radii[domain][rule])}")
    return radii


def _parser() -> FlagParser:
    example = "python main.py compare --workdir=runs/compare --rules=normalized,friendly --seeds=3"
    parser = FlagParser(USAGE, description=_DESCRIPTION, example=example)
    parser.add_argument("--workdir", metavar="W", help="folder for the runs and comparison.md (required)")
    split: dict[str, Any] = {"type": lambda text: tuple(filter(None, text.split(","))), "metavar": "NAME,NAME"}
    text = "SAM rules to rank (required): names of variants, or path/to/file.py:function"
    parser.add_argument("--rules", **split, help=text)
    parser.add_argument("--seeds", type=int, default=_SEEDS, metavar="N", help=f"seeds per rule (default: {_SEEDS})")
    parser.add_argument("--workers", type=int, metavar="N", help="worker processes (default: as the cores allow)")
    parser.add_argument("--dry_run", action="store_true", help="print the plan, and train nothing")
    return parser


def study(
    rules: Sequence[str],
    radii: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    num_seeds: int,
    workers: int | None = None,
) -> dict[str, Any]:
    """Return the config of the study that trains all compared runs.

    Args:
      radii: domain -> rule -> radii.
    """
    parts = {}
    for domain, domain_config in DOMAINS.items():
        values = {name: value for name, value in domain_config.items() if name not in ("axes", "num_epochs")}
        once, twice = domain_config["num_epochs"], 2 * domain_config["num_epochs"]
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
        axes = domain_config["axes"] | {"seed": tuple(range(num_seeds))}
        parts[domain] = values | {"points": tuple(points), "axes": axes}
    settings: dict[str, Any] = {"parts": parts}
    return {"optimizer": "sam", "study": settings | ({"workers": workers} if workers else {})}


def _variant(rule: str, domain: str) -> tuple[dict[str, Any], Callable[..., sam.AscentRule]]:
    """Resolve the config of a rule in a domain, at its smaller width, and return the rule's builder."""
    from flatwide.runs import parts

    domain_config = DOMAINS[domain]
    values = {name: value for name, value in domain_config.items() if name != "axes"}
    values |= {name: sizes[0] for name, sizes in domain_config["axes"].items()}
    config = dict(configs.resolve(values | {"optimizer": "sam", "sam_variant": rule, "rho": 1e-3}))
    return config, parts.variant_of(config)


def takes_one_gradient(rule: str) -> bool:
    """Whether a step of a rule costs one gradient, like a step of the base optimizer."""
    return not _variant(rule, next(iter(DOMAINS)))[1](1e-3).needs_clean_gradient


def radii_of(rule: str, domain: str) -> tuple[float, ...]:
    """Find the radii at which the perturbations of a rule are as long as those of `normalized`.

    The length at a radius is the median over the networks in the first epoch of the base optimizer.

    Raises: ConfigError if the rule cannot perturb a domain's network, or no radius gives one of the lengths.
    Cost: two gradients per step of an epoch for all rules, and a hundred perturbations per step for each.
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
    state, probes = experiment.init(), []
    for step in range(experiment.steps_per_epoch):
        batch = experiment.batch(step)
        gradient = gradient_of(state.params, state.stats, batch)
        probes.append(
            jax.tree.map(np.array, (gradient, state.params))
        )  # copied, since a step reuses the memory of its state
        state, _ = experiment.train_step(state, batch)
    return probes


def _lengths(rule: str, domain: str) -> Callable[[float], float]:
    """Return the median length of a rule's perturbation over the networks of an epoch, as a function of the radius.

    A rule with state sees the gradients in their order, as if the perturbations were tiny.
    """
    import jax
    import jax.numpy as jnp

    from flatwide import trees

    ascent = _variant(rule, domain)[1](1e-3)

    @jax.jit
    def advance(gradient, params, state):
        _, state = ascent.perturb(gradient, params, state, 1e-3)
        return ascent.combine(gradient, gradient, params, state)[1]

    try:
        probes, state = [], ascent.init(_first_epoch(domain)[0][1])
        for gradient, params in _first_epoch(domain):
            probes.append((gradient, params, state))
            state = advance(gradient, params, state)
    except ValueError as error:
        raise configs.ConfigError([f"--rules: {rule} cannot be compared on {domain}: {error}"]) from error
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *probes)

    @jax.jit
    def length(rho):
        def norm(probe):
            gradient, params, state = probe
            return trees.norm(ascent.perturb(gradient, params, state, rho)[0])

        return jnp.median(jax.vmap(norm)(stacked))

    return lambda rho: float(length(rho))


def _solve(measured: Callable[[float], float], length: float, *, rule: str, domain: str) -> float:
    """Find the radius of a length by bisection in the logarithm."""
    low, high = 1e-6, 1e6
    if not measured(low) < length < measured(high):
        raise configs.ConfigError(
            [
                f"--rules: {rule} has perturbations of length {measured(low):.3g} to {measured(high):.3g} on {domain} "
                f"at radii of {low:g} to {high:g}; expected {length:g} in this range. It must increase with rho."
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
      equal: "steps", where all runs have as many steps, or "gradients", where rules with one gradient per step have
        twice as many.
    """
    arranged = []
    rows = fields.done(runs, ["dataset", "num_params", "num_epochs", "sam_variant", "seed", "test_metric"])
    metrics = {_key(row): row["test_metric"] for row in rows}
    has_one_gradient = {rule: takes_one_gradient(rule) for rule in rules}
    for domain, domain_config in DOMAINS.items():
        once = domain_config["num_epochs"]
        length_of_one = once if equal == "steps" else 2 * once
        dataset = domain_config["dataset"]
        for size in sorted({int(row["num_params"]) for row in rows if row["dataset"] == dataset}):

            def column(*run: Any, at: tuple = (dataset, size)) -> list[float]:
                values = [metrics.get((*at, *run, seed)) for seed in range(num_seeds)]
                return [math.nan if value is None else value for value in values]

            tables = {
                rule: np.array(
                    [
                        column(rule, rho, length_of_one if has_one_gradient[rule] else once)
                        for rho in radii[domain][rule]
                    ]
                ).T
                for rule in rules
            }
            arranged.append(
                ranking.Cell(
                    name=f"{domain}, {size:,} parameters",
                    base=np.array(column(None, 0.0, length_of_one)),
                    rules=tables,
                    radii=radii[domain],
                )
            )
    return arranged


def _key(row: dict[str, Any]) -> tuple:
    """Return the values that identify a run of the comparison; base runs have no rule."""
    size, length, seed = (int(row[name]) for name in ("num_params", "num_epochs", "seed"))
    return row["dataset"], size, row["sam_variant"], fields.effective_rho(row), length, seed


def page(runs: Any, rules: Sequence[str], radii: Mapping[str, Mapping[str, Sequence[float]]], *, num_seeds: int) -> str:
    """Write the comparison as Markdown: a table of gains per domain and width, and the ranks that the data support."""
    lines = [
        "# Comparison of SAM rules",
        "",
        f"Test accuracy of the last epoch, {num_seeds} seeds. Every seed is scored at the radius that the other seeds "
        "choose for the rule; gains over the base optimizer in points. The intervals of a table hold jointly in 95 % "
        "of comparisons (Šidák). `→` and `←` mark a best radius at the end of the tested range.",
    ]
    for equal, explanation in (
        ("steps", "Every rule and the base take the same number of steps."),
        ("gradients", "Rules with one gradient per step, and the base, are trained for twice as many steps."),
    ):
        arranged = cells(runs, rules, radii, num_seeds=num_seeds, equal=equal)
        lines += ["", f"## Equal {equal}", "", explanation, "", *_gains(arranged, rules), "", *_ranks(arranged)]
    return "\n".join(lines) + "\n"


def _gains(arranged: Sequence[ranking.Cell], rules: Sequence[str]) -> list[str]:
    """Write the gain of each rule in each cell."""
    level = estimates.sidak(len(arranged) * len(rules))
    lines = [f"| | base, % | {' | '.join(map(_short, rules))} |", f"|---|---|{'---|' * len(rules)}"]
    for cell in arranged:
        texts = []
        for rule in rules:
            compared = ranking.compared(cell, rule)
            if compared is None:
                texts.append("a run of each radius diverged")
                continue
            gain, radius = arms.estimate(compared, level=level), compared.sam.settings[compared.chosen[1]]["rho"]
            edge = {min(cell.radii[rule]): "←", max(cell.radii[rule]): "→"}.get(radius, "")
            texts.append(
                f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f}), rho {radius:g}{edge}"
            )
        lines.append(f"| {cell.name} | {100 * cell.base.mean():.1f} | {' | '.join(texts)} |")
    return lines


def _ranks(arranged: Sequence[ranking.Cell]) -> list[str]:
    """Write the ranks of all rules over all cells."""
    standings = ranking.rank(arranged)
    lines = ["| rank | rule | mean gain, points |", "|---|---|---|"]
    for standing in standings:
        ranks = f"{standing.first}" if standing.first == standing.last else f"{standing.first} to {standing.last}"
        gain = standing.gain
        text = (
            "–"
            if standing.name == ranking.BASE
            else f"{100 * gain.value:+.2f} ({100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
        )
        lines.append(f"| {ranks} | {_short(standing.name)} | {text} |")
    if all(standing.first == 1 and standing.last == len(standings) for standing in standings):
        lines += ["", "The data do not distinguish any two of them."]
    return lines


def _short(rule: str) -> str:
    """Shorten the name of a user's rule to its file and function."""
    return f"{Path(registry.own_file(rule)).name}:{rule.rpartition(':')[2]}" if registry.is_own_file(rule) else rule
