"""Factors of initial weights, steps and perturbations: their table, reparameterizations by hand, and the base width."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import config as configs
from flatwide import experiment, parameterization, sam
from flatwide.runs import identity, parts
from flatwide.types import Categories

MUP = {"parameterization": "mup", "perturbation_scaling": "layerwise"}
SMALL = {"model": "MLP", "dataset": "digits", "num_neurons": (8, 8), "batch_size": 16, "rho": 0.1, "num_epochs": 1}
OPTIMIZERS = {
    "sgd": {"momentum": 0.9, "learning_rate": 0.05},
    "adam": {"learning_rate": 0.01, "adam_epsilon": 1e-2},
    "adamw": {"learning_rate": 0.01, "adam_epsilon": 1e-2},
}


def shapes(n):
    """Make the shapes of a network of width n with a leaf of each kind."""
    sizes = {
        "words": {"embedding": (7, n)},
        "input": {"kernel": (3, 3, 5, n), "bias": (n,)},
        "hidden": {"kernel": (3, 3, n, 2 * n), "bias": (2 * n,)},
        "heads": {"kernel": (2 * n, n // 2, 4), "bias": (n // 2, 4)},
        "joined": {"kernel": (n // 2, 4, n)},
        "norm": {"scale": (n,)},
        "output": {"kernel": (n, 10), "bias": (10,)},
    }
    is_size = lambda node: isinstance(node, tuple)  # noqa: E731
    return jax.tree.map(lambda size: jax.ShapeDtypeStruct(size, jnp.float32), sizes, is_leaf=is_size)


def factors_at(m, **options):
    base, probe, wide = shapes(4), shapes(4 * parameterization.PROBE), shapes(4 * m)
    grown = parameterization.leaves(base, probe, wide)
    settings = {"parameterization": "mup", "perturbation_scaling": "layerwise", "optimizer": "sgd"} | options
    return parameterization.factors(grown, jax.tree.structure(base), **settings)


# One row a kind of leaf at m = 16: rates of SGD and Adam, perturbation (normalized, unnormalized), decay of coupled L2
# and of AdamW, and the divisor of Adam's epsilon.
INPUT, HIDDEN = (16, 1, 64, 16, 1 / 16, 1, 16), (1, 1 / 16, 4, 1, 1, 16, 16)
TABLE = {
    ("words", "embedding"): INPUT,
    ("input", "kernel"): INPUT,
    ("input", "bias"): INPUT,
    ("hidden", "kernel"): HIDDEN,
    ("hidden", "bias"): INPUT,
    ("heads", "kernel"): HIDDEN,
    ("heads", "bias"): INPUT,
    ("joined", "kernel"): HIDDEN,
    ("norm", "scale"): INPUT,
    ("output", "kernel"): (1 / 16, 1 / 16, 1 / 4, 1 / 16, 16, 16, 1),
    ("output", "bias"): (1, 1, 4, 1, 1, 1, 1),
}

EVERY = [True] * len(TABLE)


def test_factors_are_those_of_the_table():
    sgd, adam, adamw = (factors_at(16, optimizer=name) for name in OPTIMIZERS)
    raw = factors_at(16, degree=1)
    for (layer, leaf), row in TABLE.items():
        trees = (sgd.rate, adam.rate, sgd.perturbation, raw.perturbation, sgd.decay, adamw.decay, adam.gradient)
        assert tuple(tree[layer][leaf] for tree in trees) == row, (layer, leaf)
    assert (adam.decay, adamw.rate, adamw.gradient) == (sgd.decay, adam.rate, adam.gradient)
    assert sgd.clip == adam.clip == 4
    assert set(jax.tree.leaves(sgd.gradient)) == {1}


def test_global_scaling_is_that_of_an_output_kernel():
    assert set(jax.tree.leaves(factors_at(16, perturbation_scaling="global").perturbation)) == {1 / 4}
    standard = factors_at(16, parameterization="standard", perturbation_scaling="global", degree=1)
    assert set(jax.tree.leaves(standard.perturbation)) == {1 / 16}
    assert set(jax.tree.leaves((standard.rate, standard.decay, standard.gradient))) == {1} == {standard.clip}


def global_factor(rule):
    kind = parameterization.ascent_kind(rule, shapes(4))
    scaled = factors_at(16, perturbation_scaling="global", degree=kind[0], ascended=kind[1], perturbed=kind[2])
    (factor,) = set(jax.tree.leaves(scaled.perturbation))
    return factor


def test_global_scaling_is_that_of_the_perturbed_leaves():
    """With the output kernel in the norm only, hidden kernels need m^(1/2), as by layerwise scaling."""
    assert global_factor(sam.normalized(1.0)) == 1 / 4
    assert global_factor(sam.layerwise(1.0, layer_scales=("output/kernel=0",))) == 4
    assert global_factor(sam.subset(1.0, ascent_layers=("hidden/.*",))) == 1
    assert global_factor(sam.subset(1.0, ascent_layers=("norm/scale",))) == 4
    assert global_factor(sam.layerwise(1.0, layer_scales=(".*=0",))) == 1 / 4  # nothing is perturbed


@pytest.mark.parametrize(
    ("rule", "degree"), [(sam.normalized(1.0), 0), (sam.unnormalized(1.0), 1), (sam.adaptive(1.0), 0)]
)
def test_the_degree_of_a_rule_is_found_by_asking_it(rule, degree):
    assert parameterization.ascent_kind(rule, shapes(4)) == (degree, EVERY, EVERY)


def test_a_leaf_with_factor_zero_is_still_in_the_norm():
    rule = sam.layerwise(1.0, layer_scales=("norm/scale=2", ".*=0"))
    degree, ascended, perturbed = parameterization.ascent_kind(rule, shapes(4))
    assert (degree, ascended) == (0, EVERY)
    assert perturbed == [path[0].key == "norm" for path, _ in jax.tree.leaves_with_path(shapes(4))]


def test_a_rule_that_leaves_leaves_alone_says_which():
    rule = sam.subset(1.0, ascent_layers=("norm/scale",))
    degree, ascended, perturbed = parameterization.ascent_kind(rule, shapes(4))
    assert parameterization.ascent_kind(sam.norm_layers(1.0), shapes(4))[0] == 0
    # At its first step it has no momentum to perturb along, and counts as a rule for all leaves.
    assert parameterization.ascent_kind(sam.momentum_sam(1.0), shapes(4)) == (0, EVERY, EVERY)
    assert degree == 0
    assert perturbed == ascended
    assert [
        path[0].key for (path, _), is_in in zip(jax.tree.leaves_with_path(shapes(4)), ascended, strict=True) if is_in
    ] == ["norm"]


def build(**fields):
    return experiment.build(SMALL | fields)


def take_steps(built, num_steps=10):
    state = built.init()
    for step in range(num_steps):
        state, _ = built.train_step(state, built.batch(step))
    return state.params


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_steps_are_those_of_multipliers_by_hand(float64, name):
    """w_l = c_l v_l with constant c_l: a plain optimizer and plain SAM on v, with one norm over all leaves of w."""
    decay, clip, m = 0.1, 0.3, 4
    built = build(
        base_width=(2, 2), base_optimizer=name, weight_decay=decay, gradient_clip=clip, **OPTIMIZERS[name], **MUP
    )
    # The fan-ins and fan-outs are written here by hand.
    fans = {"hidden_0": (1, m), "hidden_1": (m, m), "output": (m, 1)}
    i = {layer: {"kernel": fan_in, "bias": 1} for layer, (fan_in, _) in fans.items()}
    o = {layer: {"kernel": fan_out, "bias": fan_out} for layer, (_, fan_out) in fans.items()}
    is_sgd = name == "sgd"
    c = jax.tree.map(lambda i, o: (o / i) ** 0.5 if is_sgd else 1 / i, i, o)
    rate = built.config["learning_rate"]
    epsilon = jax.tree.map(lambda c, o: built.config["adam_epsilon"] * c / o, c, o)

    def times(a, b):
        return jax.tree.map(lambda a, b: a * b, a, b)

    def loss(v, stats, batch):
        return built.loss(times(c, v), stats, batch)

    @jax.jit
    def step(v, moments, batch, count):
        slope = jax.grad(loss)(v, {}, batch)
        norm = jnp.sqrt(
            sum(jnp.sum((leaf / c) ** 2) for leaf, c in zip(*map(jax.tree.leaves, (slope, c)), strict=True))
        )
        push = jax.tree.map(lambda g, i, o, c: 0.1 * m**0.5 * (o / i) / c**2 * g / norm, slope, i, o, c)
        slope = jax.grad(loss)(jax.tree.map(jnp.add, v, push), {}, batch)
        norm = jnp.sqrt(
            sum(jnp.sum((leaf / c) ** 2) for leaf, c in zip(*map(jax.tree.leaves, (slope, c)), strict=True))
        )
        slope = jax.tree.map(lambda leaf: leaf * jnp.minimum(1, clip * m**0.5 / norm), slope)
        if is_sgd:  # plain L2 on v is L2 with the factor i / o on w
            moments = jax.tree.map(lambda g, w, old: 0.9 * old + g + decay * w, slope, v, moments)
            return jax.tree.map(lambda w, d: w - rate * d, v, moments), moments
        if name == "adam":
            slope = jax.tree.map(lambda g, w, i, o, c: g + decay * (i / o) * c**2 * w, slope, v, i, o, c)
        first = jax.tree.map(lambda old, g: 0.9 * old + 0.1 * g, moments[0], slope)
        second = jax.tree.map(lambda old, g: 0.999 * old + 0.001 * g**2, moments[1], slope)

        def moved(w, a, b, e):
            direction = a / (1 - 0.9**count) / (jnp.sqrt(b / (1 - 0.999**count)) + e)
            return w - rate * (direction + (decay * w if name == "adamw" else 0))

        return jax.tree.map(moved, v, first, second, epsilon), (first, second)

    v = jax.tree.map(lambda w, c: w / c, built.init().params, c)
    moments = jax.tree.map(jnp.zeros_like, v if is_sgd else (v, v))
    for count in range(10):
        v, moments = step(v, moments, built.batch(count), count + 1.0)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-9, atol=1e-12), take_steps(built), times(c, v))
    assert optax.tree.norm(optax.tree.sub(times(c, v), built.init().params)) > 0.1


def program_text(built):
    text = str(jax.make_jaxpr(built.step)(built.values, built.state_shapes(), built.batch(0)))
    return re.sub(r"0x[0-9a-f]+", "", text)


DENSE, SPARSE = {}, {"pruner": "random", "sparsity": 0.5}


@pytest.mark.parametrize(("name", "sparse"), [("sgd", SPARSE), ("adam", DENSE), ("adamw", SPARSE)])
def test_at_the_base_width_the_program_is_the_standard_one(name, sparse):
    fields = {"base_optimizer": name, "weight_decay": 0.01, "gradient_clip": 1.0, **OPTIMIZERS[name], **sparse}
    standard, scaled = build(**fields), build(base_width=(8, 8), **MUP, **fields)
    assert standard.factors is None
    assert scaled.factors is not None
    assert program_text(scaled) == program_text(standard)
    assert program_text(build(base_width=(4, 4), **MUP, **fields)) != program_text(standard)
    jax.tree.map(assert_array_equal, scaled.init(), standard.init())


def test_initial_weights_have_the_deviations_of_mup():
    plain, scaled = (build(**more).init().params for more in ({}, {"base_width": (2, 2)} | MUP))
    ratios = {layer: scaled[layer]["kernel"] / plain[layer]["kernel"] for layer in plain}
    expected = {"hidden_0": 1, "hidden_1": 1, "output": 1 / 2}
    jax.tree.map(
        lambda a, b: assert_allclose(a, b, rtol=1e-6),
        ratios,
        jax.tree.map(lambda n, a: np.full(a.shape, n), expected, ratios),
    )


FIELDS = {"parameterization": "mup", "linearized": False, "output_scale": None, "num_layers": 1}


def ratio(config, wide, example, num_outputs, *names):
    """Compare the deviation of one leaf at two widths."""
    field, deviations = parts.width_field({"num_neurons": 0, "hidden_size": 0, **config}), []
    for width in (config["base_width"], wide):
        sized = config | {field: width if field == "num_neurons" else width[0]}
        leaf = parts.model_of(sized, example, num_outputs).init(jax.random.key(0))[0]
        for name in names:
            leaf = leaf[name]
        deviations.append(float(np.std(leaf)))
    return deviations[1] / deviations[0]


def test_initial_weights_of_other_rules_are_brought_to_the_same_deviations():
    number = jax.ShapeDtypeStruct((1,), np.float32)
    config = FIELDS | {"model": "OneHiddenLayer", "base_width": (64,)}
    # Its output weights are N(0, 16) at every width, its biases of one size.
    assert ratio(config, (1024,), number, 1, "output", "kernel") == pytest.approx(1 / 16, rel=0.2)
    assert ratio(config, (1024,), number, 1, "hidden_0", "bias") == pytest.approx(1, rel=0.2)


@pytest.mark.slow
def test_initial_embeddings_and_xavier_kernels_are_brought_to_the_same_deviations():
    words = Categories((5,), 50)
    config = FIELDS | {"model": "TaggingTransformer", "base_width": (16,)}
    # Its embeddings are N(0, 1/d), its kernels Xavier uniform.
    assert ratio(config, (64,), words, 3, "words", "embedding") == pytest.approx(1, rel=0.1)
    assert ratio(config, (64,), words, 3, "block_1", "hidden", "kernel") == pytest.approx(1 / 2, rel=0.1)


IMAGE, WORDS = jax.ShapeDtypeStruct((8, 8, 3), np.float32), Categories((5,), 20)
GRAPH = {
    "nodes": jax.ShapeDtypeStruct((6, 4), np.float32),
    "edges": jax.ShapeDtypeStruct((7, 2), np.int32),
    "num_nodes": jax.ShapeDtypeStruct((), np.int32),
    "num_edges": jax.ShapeDtypeStruct((), np.int32),
}
# Of each family some leaves, with the ratios of their fan-in and fan-out at twice the base width.
FAMILIES = {
    "ResNet18": (
        {"num_blocks": (1, 1)},
        (4,),
        IMAGE,
        {
            "stem/kernel": (1, 2),
            "stage_2_block_1/conv_1/kernel": (2, 2),
            "stem_norm/scale": (1, 2),
            "output/kernel": (2, 1),
        },
    ),
    "VGG11": (
        {},
        (2,),
        IMAGE,
        {"conv_1/kernel": (1, 2), "conv_8/kernel": (2, 2), "conv_8/bias": (1, 2), "output/kernel": (2, 1)},
    ),
    "ViT": (
        {},
        (32,),
        IMAGE,
        {"patches/kernel": (1, 2), "position/embedding": (1, 2), "blocks/block_1/query/kernel": (2, 2)},
    ),
    "TaggingTransformer": (
        {},
        (8,),
        WORDS,
        {"words/embedding": (1, 2), "block_1/query_key_value/kernel": (2, 2), "output/kernel": (2, 1)},
    ),
    "LSTM": (
        {},
        (256,),
        WORDS,
        {"words/embedding": (1, 2), "forward/input/kernel": (2, 2), "forward/kernel": (2, 2), "energy/kernel": (2, 1)},
    ),
    "GCN": (
        {},
        (8,),
        GRAPH,
        {"embed/kernel": (1, 2), "step_0_dense_0/kernel": (2, 2), "step_0_norm/bias": (1, 2), "output/kernel": (2, 1)},
    ),
    "ActorCritic": (
        {},
        (2,),
        IMAGE,
        {"conv_1/kernel": (1, 2), "hidden/kernel": (2, 2), "policy/kernel": (2, 1), "value/bias": (1, 1)},
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_how_leaves_grow_is_derived_from_shapes(family):
    fields, base, example, expected = FAMILIES[family]
    config = FIELDS | {"model": family, "base_width": base} | fields
    config[parts.width_field({"num_filters": 1, "hidden_size": 1, **config})] = 2 * base[0]
    grown = {leaf.name: (leaf.fan_in, leaf.fan_out) for leaf in parts.growth(config, example, 3)[0]}
    assert {name: grown[name] for name in expected} == expected
    assert set(grown.values()) <= {(1, 1), (1, 2), (2, 1), (2, 2)}


OWN = """
import jax
import jax.numpy as jnp
from flatwide.types import Model


def two_layers(example, num_outputs, *, size: int = 8):
    def init(key):
        a, b = jax.random.split(key)
        first = 0.5 * jax.random.normal(a, (64, size))
        return {"first": {"kernel": first}, "last": {"kernel": 0.02 * jax.random.normal(b, (size, num_outputs))}}, {}

    def apply(params, stats, inputs, *, train, key):
        rows = inputs.reshape(len(inputs), -1)
        return jnp.tanh(rows @ params["first"]["kernel"]) @ params["last"]["kernel"], stats

    return Model(init, apply)


def deep(example, num_outputs, *, depth: int = 1):
    def init(key):
        return {str(layer): {"kernel": jnp.zeros((2, 2))} for layer in range(depth)}, {}

    return Model(init, lambda params, stats, inputs, *, train, key: (inputs, stats))


def wide_inside(example, num_outputs, *, size: int = 2):
    def init(key):
        return {"a": {"kernel": jnp.zeros((size, size, size))}}, {}

    return Model(init, lambda params, stats, inputs, *, train, key: (inputs, stats))
"""


@pytest.fixture
def model_path(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    return lambda name: f"{path}:{name}"


def test_a_model_of_the_users_own_is_scaled_by_the_same_derivation(model_path):
    built = build(model=model_path("two_layers"), size=32, base_width=(8,), **MUP)
    assert built.factors.rate == {"first": {"kernel": 4}, "last": {"kernel": 1 / 4}}
    assert built.factors.perturbation == {"first": {"kernel": 8}, "last": {"kernel": 1 / 2}}
    params = built.init().params  # the deviation of its last layer is 0.02 at every width
    assert float(np.std(params["last"]["kernel"])) == pytest.approx(0.02 / 4, rel=0.15)
    assert float(np.std(params["first"]["kernel"])) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parameterization": "mup"}, "config.base_width is missing"),
        ({"perturbation_scaling": "global"}, "config.base_width is missing"),
        ({"perturbation_scaling": "layerwise", "base_width": (4, 4)}, "set config.parameterization=mup"),
        ({"parameterization": "muP"}, "Did you mean 'mup'? Known: mup, standard."),
        ({"perturbation_scaling": "layer"}, "Known: global, layerwise, none."),
        (MUP | {"base_width": (4,)}, "config.base_width=(4,) with config.num_neurons=(8, 8): expected as many sizes"),
        (MUP | {"base_width": (4, 2)}, "all in the same ratio"),
        (MUP | {"base_width": (4, 4), "sam_variant": "adaptive"}, "approach the floor of 0.01"),
        (MUP | {"base_width": (4, 4), "output_scale": 2.0}, "a multiplier of the outputs changes gradients"),
        (
            MUP | {"base_width": (4,), "model": "TwoLayerFrozenHead", "num_neurons": (8,)},
            "no trained kernel maps units whose number grows",
        ),
    ],
)
def test_pairs_that_are_unsound_are_refused_with_the_reason(fields, message):
    with pytest.raises(configs.ConfigError, match=re.escape(message)):
        build(**fields)


@pytest.mark.parametrize(
    ("name", "field", "message"),
    [
        ("deep", "depth", "different parameters at the base width"),
        ("wide_inside", "size", "a/kernel: 3 axes of (2, 2, 2) grow"),
    ],
)
def test_a_model_that_grows_in_another_way_is_refused(model_path, name, field, message):
    with pytest.raises(configs.ConfigError, match=re.escape(message)):
        build(model=model_path(name), base_width=(2,), **{field: 4}, **MUP)


def name_of(**fields):
    return identity.locate(configs.resolve(SMALL | fields), "w")[0].name


def test_the_new_fields_name_a_run_only_where_it_reads_them():
    plain = name_of()
    assert name_of(base_width=(4, 4)) == plain
    base = name_of(rho=0.0)
    assert name_of(rho=0.0, perturbation_scaling="global", base_width=(4, 4)) == base
    mup = {"parameterization": "mup", "base_width": (4, 4)}
    named = [name_of(**mup), name_of(**mup | {"base_width": (2, 2)}), name_of(**mup, perturbation_scaling="global")]
    assert len({plain, *named}) == 4
    assert name_of(**mup, perturbation_scaling="layerwise", rho=0.0) == name_of(**mup, rho=0.0) != base
