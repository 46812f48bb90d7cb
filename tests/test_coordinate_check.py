"""Slopes over widths: their fit, what is judged, and the command."""

import re

import numpy as np
import pytest
import scipy.stats

from flatwide import cli, coordinate_check
from flatwide import config as configs
from flatwide.coordinate_check import command, slopes
from flatwide.coordinate_check.slopes import FEATURES, OUTPUTS, PERTURBATION, SHARE, Quantity
from flatwide.parameterization import Leaf

MULTIPLES = [8, 16, 32]
GROWN = [
    Leaf("hidden/kernel", fan_in=1.0, fan_out=8.0, order=-1),
    Leaf("output/kernel", fan_in=8.0, fan_out=1.0, order=1),
    Leaf("output/bias", fan_in=1.0, fan_out=1.0, order=0),
]
CONFIG = {"parameterization": "mup", "perturbation_scaling": "layerwise"}


KERNELS = (Quantity(FEATURES, "hidden/kernel"), Quantity(FEATURES, "output/kernel"))


def fitted(quantity, exponents, *, size=1.0, more=KERNELS, config=CONFIG):
    """Fit values size * multiple^exponent, an exponent for each seed; `more` are other quantities with value 1."""
    rows = [
        [dict.fromkeys(more, 1.0) | {quantity: size * m**e} for e in exponents]  # a row a width
        for m in MULTIPLES
    ]
    (slope,) = (slope for slope in slopes._slopes(rows, MULTIPLES, GROWN, config) if slope.quantity == quantity)
    return slope


def test_a_slope_is_the_mean_over_seeds_with_its_t_interval():
    slope = fitted(Quantity(FEATURES, "hidden/kernel"), [0.2, 0.3, 0.4])
    reach = 4.302653 * 0.1 / 3**0.5
    assert (slope.slope, slope.low, slope.high) == pytest.approx((0.3, 0.3 - reach, 0.3 + reach), rel=1e-6)
    assert slope.values.shape == (3, 3)


def test_a_slope_that_a_joint_interval_does_not_confirm_may_be_chance():
    quantity, exponents = Quantity(PERTURBATION, "hidden/kernel"), np.array([0.2, 0.3, 0.4])
    slope = fitted(quantity, exponents)  # judged beside the hidden features
    reaches = [scipy.stats.t.ppf((1 + level) / 2, 2) * 0.1 / 3**0.5 for level in (0.95, 0.95**0.5)]
    assert reaches[0] < slope.slope < reaches[1]
    assert slope.is_off
    assert slope.may_be_chance
    assert not fitted(quantity, exponents + 0.1).may_be_chance


@pytest.mark.parametrize(
    ("exponents", "is_off"),
    [
        ([0.19, 0.2, 0.21], True),  # beyond 0.15, and the interval excludes 0
        ([-0.21, -0.2, -0.19], True),
        ([0.13, 0.14, 0.15], False),  # excludes 0, but is small
        ([-0.5, 0.4, 0.9], False),  # large, but uncertain
    ],
)
def test_a_slope_is_off_where_it_is_large_and_certain(exponents, is_off):
    assert fitted(Quantity(PERTURBATION, "hidden/kernel"), exponents).is_off is is_off


def test_a_number_that_is_none_is_off():
    assert fitted(Quantity(FEATURES, "hidden/kernel"), [np.nan, 0.0]).is_off
    assert fitted(Quantity(FEATURES, "hidden/kernel"), [0.0, 0.0], size=np.inf).is_off


@pytest.mark.parametrize(
    ("quantity", "is_judged", "expected"),
    [
        (Quantity(FEATURES, "hidden/kernel"), True, 0.0),
        (Quantity(FEATURES, "output/kernel"), False, 0.0),
        (Quantity(PERTURBATION, "output/kernel"), True, 0.0),
        (Quantity(PERTURBATION, "output/bias"), False, 0.0),
        (Quantity(OUTPUTS, ""), False, 0.0),
        (Quantity(SHARE, "hidden"), False, 0),
        (Quantity(SHARE, "output"), False, -1),
    ],
)
def test_hidden_features_and_perturbations_are_judged(quantity, is_judged, expected):
    slope = fitted(quantity, [1.0, 1.1])
    assert (slope.is_judged, slope.expected, slope.is_off) == (is_judged, expected, is_judged)


def test_what_is_rounding_beside_the_rest_has_no_slope():
    slope = fitted(Quantity(PERTURBATION, "key/bias"), [1.0, 1.0], size=1e-9, more=[Quantity(PERTURBATION, "a")])
    assert (slope.is_judged, slope.expected) == (False, None)
    assert np.isnan(slope.slope)


def test_shares_are_expected_from_gradients_that_grow_with_the_fan_in():
    naive = CONFIG | {"perturbation_scaling": "none"}
    assert slopes.expected_shares(GROWN, CONFIG) == {"hidden": 0, "output": -1}
    assert slopes.expected_shares(GROWN, naive) == {"hidden": -2, "output": 0}
    assert slopes.expected_shares(GROWN, naive | {"parameterization": "standard"}) == {}


FIELDS = ("num_neurons=4", "base_width=4", "parameterization=mup", "rho=0.1", "learning_rate=0.05")


def check(*fields, flags=()):
    assigned = [f"--config.{field}" for field in (*FIELDS, "batch_size=32", *fields)]
    return cli.main(["coordinate_check", "--config=configs/digits_mlp.py", *assigned, *flags])


@pytest.mark.slow
def test_the_command_passes_layerwise_scaling_and_fails_none(tmp_path, capsys):
    widths = ("--widths=128,512", "--seeds=3")
    assert check("perturbation_scaling=layerwise", flags=(*widths, f"--output={tmp_path / 'a'}")) == 0
    printed = capsys.readouterr().out
    assert "all 3 judged slopes are as expected, after 5 steps at widths (128,), (512,)." in printed
    match = re.search(r"effect of the perturbation on the output of hidden_0/kernel +([+-]\d\.\d\d)", printed)
    assert match is not None
    assert abs(float(match[1])) < 0.15
    written = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert written == ["coordinate_check.csv", "coordinate_check.svg", "coordinate_check_slopes.txt"]
    assert check("perturbation_scaling=none", flags=widths) == 1
    printed = capsys.readouterr().out
    assert re.search(r"hidden_0/kernel +-[01]\.\d\d .*OFF", printed)
    assert check(flags=(f"--output={tmp_path / 'a'}",)) == 2
    assert "it contains the files of another check" in capsys.readouterr().err


def test_a_model_and_a_rule_of_the_users_own_are_checked(tmp_path):
    (tmp_path / "mine.py").write_text(
        """
import jax
from flatwide import sam
from flatwide.types import Model


def network(example, num_outputs, *, size: int = 4):
    def init(key):
        a, b = jax.random.split(key)
        return {"first": jax.random.normal(a, (64, size)) / 8, "last": jax.random.normal(b, (size, num_outputs))}, {}

    def apply(params, stats, inputs, *, train, key):
        return jax.nn.relu(inputs.reshape(len(inputs), -1) @ params["first"]) @ params["last"], stats

    return Model(init, apply)


def rule(rho):
    return sam.unnormalized(rho)
"""
    )
    fields = {"model": f"{tmp_path}/mine.py:network", "sam_variant": f"{tmp_path}/mine.py:rule", "base_width": (4,)}
    more = {"parameterization": "mup", "perturbation_scaling": "layerwise", "rho": 0.1, "learning_rate": 0.02}
    messages = []
    config = configs.resolve(fields | more | {"batch_size": 32})
    check = coordinate_check.run(config, widths=[(32,), (256,)], num_seeds=2, say=messages.append)
    assert check.widths == [32, 256]
    assert messages == ["size=32: 5 steps with each of 2 seeds", "size=256: 5 steps with each of 2 seeds"]
    by_name = {slope.quantity: slope for slope in check.slopes}
    assert {(q.kind, q.name) for q in by_name} == {
        (FEATURES, "first"),
        (FEATURES, "last"),
        (OUTPUTS, ""),
        *((kind, name) for kind in (PERTURBATION, SHARE) for name in ("first", "last")),
    }
    # An unnormalized perturbation of the output kernel has the length that the same one has at every width.
    assert abs(by_name[Quantity(PERTURBATION, "last")].slope) < 0.5


# Networks far enough from their base width, with attention in heads of one size.
NETWORKS = {
    "MLP": ({"num_neurons": (32, 32), "base_width": (32, 32)}, (256, 1024)),
    "ResNet18": ({"num_filters": 4, "num_blocks": (1, 1), "base_width": (4,)}, (32, 128)),
    "ViT": ({"hidden_size": 32, "num_layers": 1, "base_width": (32,)}, (256, 1024)),
    "TaggingTransformer": (
        {"dataset": "made_tagging", "hidden_size": 64, "num_layers": 1, "dropout": 0.0, "base_width": (64,)},
        (256, 1024),
    ),
}
ARMS = {
    "layerwise": {"parameterization": "mup", "perturbation_scaling": "layerwise"},
    "none": {"parameterization": "mup"},
    "global": {"parameterization": "mup", "perturbation_scaling": "global"},
    "standard": {},
}


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("model", NETWORKS)
def test_every_family_is_alike_at_every_width_with_layerwise_scaling_alone(model, arm):
    fields, widths = NETWORKS[model]
    shared = {"model": model, "batch_size": 32, "learning_rate": 0.05, "rho": 0.1}
    entries = [(width,) * len(fields["base_width"]) for width in widths]
    check = coordinate_check.run(configs.resolve(shared | fields | ARMS[arm]), widths=entries, num_seeds=5)
    judged = [slope for slope in check.slopes if slope.is_judged]
    if arm == "layerwise":  # 8 to 32 times the base, some kernels of the ResNet and the ViT still drift
        assert max(abs(slope.slope) for slope in judged) < 0.35
    else:
        assert any(slope.is_off for slope in judged)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--config is missing"),
        (("--config=configs/digits_mlp.py", "--widths=64"), "--widths=64: expected two or more widths"),
        (("--config=configs/digits_mlp.py", "--widths=64,(8,8)"), "all of the same length"),
        (("--config=configs/digits_mlp.py", "--seeds=1"), "--seeds='1': expected an integer >= 2"),
        (("--config=configs/digits_mlp.py", f"--seeds={'9' * 5000}"), "(5,002 characters): expected an integer >= 2"),
        (("--config=configs/digits_mlp.py", "--output=/dev/null/x"), "--output=/dev/null/x: no file can be written in"),
        (
            ("--config=configs/digits_mlp.py", "--width=64"),
            "is not a flag of this command; usage: python main.py coordinate_check",
        ),
        (("--config=configs/digits_mlp.py", "--config.parameterization=mup"), "config.base_width is missing"),
    ],
)
def test_bad_flags_are_one_line_each(capsys, flags, message):
    assert cli.main(["coordinate_check", *flags]) == 2
    assert message in capsys.readouterr().err


def test_help_shows_the_flags(capsys):
    assert cli.main(["coordinate_check", "--help"]) == 0
    assert command.USAGE in capsys.readouterr().out
