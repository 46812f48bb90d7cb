"""The command `compare`: a ranking of SAM rules, built-in or yours, at equal steps and at equal gradients.

It has three domains that need no download, each with a small and a large width, and every rule at its best radius. The
radii of a rule are those at which its perturbations are as long as those of `normalized`, so its scale may be unknown.
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flatwide import config as configs
from flatwide import registry, sam
from flatwide.analysis import estimates, fields, ranking
from flatwide.config.parser import FlagParser
from flatwide.runs import disk
from flatwide.runs.logs import say
from flatwide.runs.table import collect
from flatwide.study import settings as study_settings

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
    parser = FlagParser(
        USAGE,
        description=_DESCRIPTION,
        example="python main.py compare --workdir=runs/compare --rules=normalized,friendly --seeds=3",
    )
    parser.add_argument("--workdir", metavar="W", help="folder for the runs and comparison.md (required)")
    split: dict[str, Any] = {"type": lambda text: tuple(filter(None, text.split(","))), "metavar": "NAME,NAME"}
    text = "SAM rules to rank (required): names of variants, or path/to/file.py:function"
    parser.add_argument("--rules", **split, help=text)
    parser.add_argument("--seeds", type=int, default=_SEEDS, metavar="N", help=f"seeds per rule (default: {_SEEDS})")
    parser.add_argument("--workers", type=int, metavar="N", help="worker processes (default: as the cores allow)")
    parser.add_argument("--dry_run", action="store_true", help="print the plan, and train nothing")
    flags = parser.parse_args(arguments)
    if not flags.workdir or not flags.rules:
        parser.error("expected --workdir and --rules")
    for name, least, reason in (("workers", 1, ""), ("seeds", 2, ", for intervals")):
        if (given := getattr(flags, name)) is not None and given < least:
            parser.error(f"--{name}={given}: expected {least} or more{reason}")
    unknown = [rule for rule in flags.rules if not registry.is_own_file(rule) and rule not in sam.VARIANTS]
    if unknown:
        raise configs.ConfigError([registry.unknown("--rules", rule, sam.VARIANTS) for rule in unknown])
    rules = tuple(dict.fromkeys(map(registry.absolute, flags.rules)))
    # The number of runs and their cost do not depend on the radii.
    radii: dict[str, dict[str, tuple[float, ...]]] = {domain: dict.fromkeys(rules, _LENGTHS) for domain in DOMAINS}
    of_a_seed, _ = study_settings.read(study(rules, radii, num_seeds=1)["study"], {})
    if too_many := study_settings.too_many(flags.seeds * study_settings.num_runs(of_a_seed.parts)):
        raise configs.ConfigError([f"--seeds={flags.seeds}: {fault}" for fault in too_many])
    if flags.dry_run:
        from flatwide.study import command as study_command

        config = study(rules, radii, num_seeds=flags.seeds, workers=flags.workers)
        return f"{study_command.dry_run(config, flags.workdir)}\n{_NOTE}", 0
    disk.check_folder(flags.workdir, f"--workdir={flags.workdir}")
    say("searching for the radii at which all rules perturb as far as SAM, from an epoch of each domain ...")
    for domain, rule in itertools.product(DOMAINS, rules):
        radii[domain][rule] = radii_of(rule, domain)
        say(f"radii on {domain}, {_short(rule)}: {', '.join(f'{radius:g}' for radius in radii[domain][rule])}")
    config = study(rules, radii, num_seeds=flags.seeds, workers=flags.workers)
    if code := train(config, flags.workdir):
        return "the study is not done; rerun the same command to finish it.", code
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
    """Return the config of the study that trains all compared runs.

    Args:
      radii: domain -> rule -> radii.
    """
    parts = {}
    for domain, domain_config in DOMAINS.items():
        once = domain_config["num_epochs"]
        twice = 2 * once
        points = [("normalized", 0.0, length) for length in (once, twice)]  # the base optimizer
        for rule in rules:
            lengths = (once, twice) if takes_one_gradient(rule) else (once,)
            points += itertools.product([rule], radii[domain][rule], lengths)
        parts[domain] = {name: value for name, value in domain_config.items() if name != "num_epochs"} | {
            "points": tuple(dict(zip(("sam_variant", "rho", "num_epochs"), point, strict=True)) for point in points),
            "axes": domain_config["axes"] | {"seed": tuple(range(num_seeds))},
        }
    return {"optimizer": "sam", "study": {"parts": parts} | ({"workers": workers} if workers else {})}


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
    try:
        return tuple(_solve(measured, length, rule=rule, domain=domain) for length in _LENGTHS)
    except configs.ConfigError:
        raise
    except ValueError as error:
        raise configs.ConfigError([f"--rules: {rule} cannot be compared on {domain}: {error}"]) from error


@functools.lru_cache(maxsize=len(DOMAINS))
def _first_epoch(domain: str) -> tuple[Any, Any]:
    """Train the base optimizer for an epoch; return the gradients and the parameters of its steps, stacked."""
    import jax

    from flatwide.experiment import build

    experiment = build(_variant("normalized", domain)[0] | {"rho": 0.0})
    gradient_of = jax.jit(jax.grad(experiment.loss))
    state, probes = experiment.init(), []
    for step in range(experiment.steps_per_epoch):
        batch = experiment.batch(step)
        probe = gradient_of(state.params, state.stats, batch), state.params
        probes.append(jax.tree.map(np.array, probe))  # copied, since a step reuses the memory of its state
        state, _ = experiment.train_step(state, batch)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *probes)


def _lengths(rule: str, domain: str) -> Callable[[float], float]:
    """Return the median length of a rule's perturbation over the networks of an epoch, as a function of the radius."""
    import jax
    import jax.numpy as jnp

    from flatwide import trees

    ascent, probes = _variant(rule, domain)[1](1e-3), _first_epoch(domain)

    @jax.jit
    def length(rho):
        def advance(state, probe):
            gradient, params = probe
            norm = trees.norm(ascent.perturb(gradient, params, state, rho)[0])
            _, state = ascent.perturb(gradient, params, state, 1e-3)  # a state sees the gradients in their order
            return ascent.combine(gradient, gradient, params, state)[1], norm

        first = jax.tree.map(lambda leaf: leaf[0], probes[1])
        return jnp.median(jax.lax.scan(advance, ascent.init(first), probes)[1])

    return lambda rho: float(length(rho))


def _solve(measured: Callable[[float], float], length: float, *, rule: str, domain: str) -> float:
    """Find the radius of a length by bisection in the logarithm."""
    low, high = 1e-6, 1e6
    if not measured(low) < length < measured(high):
        text = f"{rule} has perturbations of length {measured(low):.3g} to {measured(high):.3g} on {domain} at radii of"
        text += f" {low:g} to {high:g}; expected {length:g} in this range. It must increase with rho."
        raise configs.ConfigError([f"--rules: {text}"])
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if measured(middle) < length else (low, middle)
    return float(f"{math.sqrt(low * high):.3g}")


def blocks(
    runs: Any, rules: Sequence[str], radii: Mapping[str, Mapping[str, Sequence[float]]], *, num_seeds: int, equal: str
) -> list[ranking.Block]:
    """Arrange the runs of each domain and width.

    Args:
      equal: "steps", where all runs have as many steps, or "gradients", where rules with one gradient per step have
        twice as many.
    """
    names = ["dataset", "num_params", "num_epochs", "sam_variant", "seed", "test_metric"]
    metrics = {
        (row["dataset"], *(int(row[name]) for name in ("num_params", "num_epochs", "seed")), row["sam_variant"],
         fields.effective_rho(row)): row["test_metric"]
        for row in fields.done(runs, names)
    }  # fmt: skip
    arranged = []
    for domain, domain_config in DOMAINS.items():
        once, dataset = domain_config["num_epochs"], domain_config["dataset"]
        of_one = once if equal == "steps" else 2 * once
        lengths = {rule: of_one if takes_one_gradient(rule) else once for rule in rules}
        for size in sorted({key[1] for key in metrics if key[0] == dataset}):

            def column(length: int, rule: str | None, rho: float, at: tuple = (dataset, size)) -> list[float]:
                values = [metrics.get((*at, length, seed, rule, rho)) for seed in range(num_seeds)]
                return [math.nan if value is None else value for value in values]

            tables = {
                rule: np.array([column(lengths[rule], rule, rho) for rho in radii[domain][rule]]).T for rule in rules
            }
            base = np.array(column(of_one, None, 0.0))  # base runs have no rule
            name = f"{domain}, {size:,} parameters"
            arranged.append(ranking.Block(name=name, base=base, rules=tables, radii=radii[domain]))
    return arranged


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
        arranged = blocks(runs, rules, radii, num_seeds=num_seeds, equal=equal)
        lines += ["", f"## Equal {equal}", "", explanation, "", *_gains(arranged, rules), "", *_ranks(arranged)]
    return "\n".join(lines) + "\n"


def _gains(arranged: Sequence[ranking.Block], rules: Sequence[str]) -> list[str]:
    """Write the gain of each rule in each block."""
    level = estimates.sidak(len(arranged) * len(rules))
    lines = [f"| | base, % | {' | '.join(map(_short, rules))} |", f"|---|---|{'---|' * len(rules)}"]
    for block in arranged:
        texts = []
        for rule in rules:
            compared = ranking.compared(block, rule)
            if compared is None:
                texts.append("a run of each radius diverged")
                continue
            gain, radius = compared.gain.at(level), compared.sam.settings[compared.chosen[1]]["rho"]
            edge = {min(block.radii[rule]): "←", max(block.radii[rule]): "→"}.get(radius, "")
            texts.append(
                f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f}), rho {radius:g}{edge}"
            )
        lines.append(f"| {block.name} | {100 * block.base.mean():.1f} | {' | '.join(texts)} |")
    return lines


def _ranks(arranged: Sequence[ranking.Block]) -> list[str]:
    """Write the ranks of all rules over all blocks."""
    standings = ranking.rank(arranged)
    lines = ["| rank | rule | mean gain, points |", "|---|---|---|"]
    for standing in standings:
        ranks = f"{standing.first}" if standing.first == standing.last else f"{standing.first} to {standing.last}"
        value, low, high = (100 * each for each in (standing.gain.value, standing.gain.low, standing.gain.high))
        text = "–" if standing.name == ranking.BASE else f"{value:+.2f} ({low:+.2f} to {high:+.2f})"
        lines.append(f"| {ranks} | {_short(standing.name)} | {text} |")
    if all(standing.first == 1 and standing.last == len(standings) for standing in standings):
        lines += ["", "The data do not distinguish any two of them."]
    return lines


def _short(rule: str) -> str:
    """Shorten the name of a user's rule to its file and function."""
    return f"{Path(registry.own_file(rule)).name}:{rule.rpartition(':')[2]}" if registry.is_own_file(rule) else rule
