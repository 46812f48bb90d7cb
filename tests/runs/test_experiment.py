"""The pieces of a run, and workloads unlike images that fit the same interfaces."""

import re

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from flatwide import config as configs
from flatwide import experiment, registry, runner, streams
from flatwide.runs import build, driver, identity
from flatwide.runs.load import load_run

FIELDS = {"num_neurons": (8,), "num_epochs": 2, "batch_size": 100}


def test_streams_do_not_disturb_each_other():
    plain = experiment.build(FIELDS)
    noisy = experiment.build(FIELDS | {"label_noise": 0.5})
    assert_array_equal(plain.init().params["output"]["kernel"], noisy.init().params["output"]["kernel"])
    assert_array_equal(plain.batch(3)["inputs"], noisy.batch(3)["inputs"])
    changed = np.sum(plain.train.targets != noisy.train.targets)
    assert changed == round(0.5 * plain.train.num_examples)
    assert_array_equal(plain.test.targets, noisy.test.targets)


def test_the_split_comes_before_noise_and_subset():
    built = experiment.build(FIELDS | {"validation_fraction": 0.2, "train_examples": 200, "label_noise": 0.5})
    clean = experiment.build(FIELDS | {"validation_fraction": 0.2})
    assert built.train.num_examples == 200
    assert_array_equal(built.validation.targets, clean.validation.targets)
    assert_array_equal(built.validation.arrays["inputs"], clean.validation.arrays["inputs"])


def test_a_seed_decides_everything():
    fields = FIELDS | {"label_noise": 0.3, "pruner": "random", "sparsity": 0.5}
    first, again, other = (experiment.build(fields | {"seed": seed}) for seed in (1, 1, 2))
    kernels = [built.init().params["hidden_0"]["kernel"] for built in (first, again, other)]
    masks = [built.init().mask["hidden_0"]["kernel"] for built in (first, again, other)]
    for chosen in ([built.train.targets for built in (first, again, other)], kernels, masks):
        assert_array_equal(chosen[0], chosen[1])
        assert not np.array_equal(chosen[0], chosen[2])
    assert_array_equal(first.batch(5)["inputs"], again.batch(5)["inputs"])
    assert not np.array_equal(first.batch(5)["inputs"], other.batch(5)["inputs"])
    start = experiment.build(FIELDS | {"seed": 1}).init().params["hidden_0"]["kernel"]
    assert not np.array_equal(start, experiment.build(FIELDS | {"seed": 2}).init().params["hidden_0"]["kernel"])


@pytest.mark.parametrize("pruner", ["random", "magnitude", "snip"])
@pytest.mark.parametrize("layer_density", [None, "uniform", "erk", "global"])
def test_sparsity_is_exact_for_every_pruner(pruner, layer_density):
    built = experiment.build(FIELDS | {"pruner": pruner, "sparsity": 0.9, "layer_density": layer_density})
    state = built.init()
    by_layer = [int(np.sum(state.mask[layer]["kernel"])) for layer in ("hidden_0", "output")]
    num_kept = sum(by_layer)
    kernels = 64 * 8 + 8 * 10
    is_by_layer = layer_density == "uniform" or (layer_density is None and pruner == "random")
    assert num_kept == (round(0.1 * 64 * 8) + round(0.1 * 8 * 10) if is_by_layer else round(0.1 * kernels))
    if layer_density == "erk":  # in proportion to inputs + outputs
        assert by_layer == [round(0.1 * kernels * size / 90) for size in (64 + 8, 8 + 10)]
    for layer in ("hidden_0", "output"):
        assert_array_equal(np.asarray(state.params[layer]["kernel"])[~np.asarray(state.mask[layer]["kernel"])], 0)


def test_runs_that_differ_in_words_or_values_share_a_step():
    plain = experiment.build(FIELDS | {"rho": 0.0})
    for fields in ({"optimizer": "sgd"}, {"optimizer": "sgd", "rho": 0.3}, {"rho": 0.0, "sam_variant": "adaptive"}):
        assert experiment.build(FIELDS | fields).step is plain.step
        assert build.shape(configs.resolve(FIELDS | fields)) == build.shape(plain.config)
    assert experiment.build(FIELDS | {"rho": 0.1}).step is experiment.build(FIELDS | {"rho": 0.2, "seed": 3}).step
    for fields in ({"optimizer": "adam"}, {"rho": 0.1}, {"rho": 0.1, "sam_variant": "adaptive"}):
        assert experiment.build(FIELDS | fields).step is not plain.step
    assert experiment.build(FIELDS | {"optimizer": "adam"}).step is not experiment.build(FIELDS | {"rho": 0.1}).step


def test_float32_products_are_exact_unless_someone_chose_otherwise():
    fields = configs.resolve(FIELDS)

    def precisions(built):
        step = jax.jit(built.step).lower(built.values, built.state_shapes(), built.batch(0))
        return set(re.findall(r"precision = \[(\w+)", step.as_text()))

    before = jax.config.jax_default_matmul_precision
    try:
        jax.config.update("jax_default_matmul_precision", None)
        plain = identity.identity(fields, "data")
        assert precisions(experiment.build(FIELDS)) == {"HIGHEST"}
        assert identity.identity(fields, "data") == plain
        assert "matmul_precision" not in plain
        for same in ("float32", "highest"):
            with jax.default_matmul_precision(same):
                assert identity.identity(fields, "data") == plain
        with jax.default_matmul_precision("high"):
            assert precisions(experiment.build(FIELDS)) == {"HIGH"}
            assert identity.identity(fields, "data") == plain | {"matmul_precision": "high"}
    finally:
        jax.config.update("jax_default_matmul_precision", before)


_DROPPED = """
import jax, jax.numpy as jnp
from flatwide.data.digits import digits as load
from flatwide.types import Model

KEYS = []

def digits():
    data = load()
    def prepare(batch, key, *, train):
        if train:
            jax.debug.callback(KEYS.append, jax.random.key_data(key))
        return data.prepare(batch, key, train=train)
    return data._replace(prepare=prepare)

def dropped(example, num_outputs):
    def init(key):
        return {"kernel": jax.random.normal(key, (64, num_outputs))}, {}
    def apply(params, stats, inputs, *, train, key):
        inputs = inputs.reshape(inputs.shape[0], -1)
        if train:
            jax.debug.callback(KEYS.append, jax.random.key_data(key))
            inputs = jnp.where(jax.random.bernoulli(key, 0.5, inputs.shape), inputs, 0)
        return inputs @ params["kernel"], stats
    return Model(init, apply)
"""


@pytest.mark.parametrize(("chosen", "written"), [(None, "HIGHEST"), ("high", "HIGH")])
def test_building_changes_no_setting_of_jax_and_every_product_has_the_precision_passed(chosen, written):
    before = jax.config.jax_default_matmul_precision
    try:
        jax.config.update("jax_default_matmul_precision", None)
        built = experiment.build({"num_neurons": (4,), "batch_size": 8, "rho": 0.1}, matmul_precision=chosen)
        state, batch = built.init(), built.batch(0)
        text = str(jax.make_jaxpr(built.step)(built.values, state, batch))
        assert jax.config.jax_default_matmul_precision is None
    finally:
        jax.config.update("jax_default_matmul_precision", before)
    products = re.findall(r"dot_general\[.*?\]\s", text, flags=re.DOTALL)
    assert len(products) >= 10  # two layers, two passes, forward and backward
    assert all(
        f"precision=({written}" in " ".join(product.split()) or f"Precision.{written}," in product
        for product in products
    )


def test_a_state_is_made_by_three_programs(caplog):
    fields = {"dataset": "digits", "num_neurons": (7, 11), "momentum": 0.9, "rho": 0.1, "sam_variant": "momentum"}
    built = experiment.build(fields | {"weight_average": "ema"})
    jax.clear_caches()
    with jax.log_compiles(), caplog.at_level("WARNING", logger="jax"):
        built.init()
    compiled = re.findall(r"Compiling jit\((.*?)\) ", caplog.text)
    assert sorted(compiled) == ["begin", "init", "weights_key"]


def test_snip_draws_apart_for_each_use_and_batch_and_compiles_once(tmp_path, caplog):
    user_file = tmp_path / "dropped.py"
    user_file.write_text(_DROPPED)
    fields = {"model": f"{user_file}:dropped", "dataset": f"{user_file}:digits", "batch_size": 100}
    fields |= {"pruner": "snip", "sparsity": 0.5, "snip_batches": 2}
    first, second = (experiment.build(fields | {"seed": seed}) for seed in (0, 1))
    seen = registry.find("config.model", fields["model"], {}).__globals__["KEYS"]
    masks = [first.init().mask]
    jax.effects_barrier()
    keys = {tuple(key.tolist()) for key in seen}
    assert len(keys) == 4  # augmentation and dropout, of two batches
    assert tuple(jax.random.key_data(streams.key(0, "mask")).tolist()) not in keys
    with jax.log_compiles():
        masks.append(second.init().mask)
    assert not [record for record in caplog.records if record.message.startswith("Compiling")]
    assert not np.array_equal(*(mask["kernel"] for mask in masks))
    jax.effects_barrier()
    assert len({tuple(key.tolist()) for key in seen}) == 8  # another seed draws apart too


@pytest.mark.filterwarnings("ignore:config.pruner='snip'")  # a width of 1 may be dead, and then says so
@pytest.mark.slow
def test_extremes_train(tmp_path):
    for fields in (
        {"num_neurons": (1,), "rho": 10.0, "learning_rate": 1e-3},
        {"num_neurons": (1,), "pruner": "random", "sparsity": 0.999},
        {"num_neurons": (1, 1, 1), "pruner": "snip", "sparsity": 0.999, "snip_batches": 3},
        {"num_neurons": ()},
    ):
        result = runner.run(FIELDS | fields, tmp_path, quiet=True)
        assert result["status"] == "finished"
        assert result["num_nonzero_params"] <= result["num_params"]
        assert (result["num_nonzero_params"] < result["num_params"]) == ("sparsity" in fields)


_SEQUENCES = """
import jax, jax.numpy as jnp, numpy as np
from flatwide.data import Resident
from flatwide.types import Dataset, Model

WORDS, TAGS, LONGEST = 11, 4, 9

def sentences():
    generator = np.random.default_rng(0)
    def split(count):
        lengths = generator.integers(1, LONGEST + 1, count)
        words = generator.integers(1, WORDS, (count, LONGEST))
        real = np.arange(LONGEST) < lengths[:, None]
        return Resident({
            "inputs": np.where(real, words, 0).astype(np.int32),
            "targets": np.where(real, words % TAGS, 0).astype(np.int32),
            "weights": real.astype(np.float32),
        })
    def prepare(batch, key, *, train):
        return batch
    return Dataset(split(64), split(30), prepare, jax.ShapeDtypeStruct((LONGEST,), jnp.int32), TAGS, "sentences")

def tagger(example, num_outputs, *, embedding_size: int = 6) -> Model:
    def init(key):
        one, other = jax.random.split(key)
        return {"words": {"embedding": jax.random.normal(one, (WORDS, embedding_size))},
                "output": [jax.random.normal(other, (embedding_size, num_outputs)), jnp.zeros(num_outputs)]}, {}
    def apply(params, stats, inputs, *, train, key):
        kernel, bias = params["output"]
        return params["words"]["embedding"][inputs] @ kernel + bias.reshape(1, 1, -1), stats
    return Model(init, apply)
"""


def test_a_users_own_sequence_model_with_padding_trains_from_its_file(tmp_path):
    user_file = tmp_path / "tagging.py"
    user_file.write_text(_SEQUENCES)
    fields = {"model": f"{user_file}:tagger", "dataset": f"{user_file}:sentences", "embedding_size": 8}
    fields |= {"batch_size": 16, "num_epochs": 40, "rho": 0.02, "base_optimizer": "adamw", "learning_rate": 0.05}
    result = runner.run(fields, tmp_path, quiet=True)
    assert result["metric_name"] == "accuracy"
    assert result["test_metric"] > 0.9
    assert result["num_params"] == 11 * 8 + 8 * 4 + 4
    built = experiment.build(fields)
    state = built.init()
    evaluation = built.evaluate(state, built.test)
    outputs, _ = built.workload.model.apply(state.params, {}, built.test.arrays["inputs"], train=False, key=None)
    real = built.test.arrays["weights"] > 0
    correct = np.asarray(outputs).argmax(-1) == built.test.targets
    losses = -np.take_along_axis(np.asarray(jax.nn.log_softmax(outputs)), built.test.targets[..., None], axis=-1)[
        ..., 0
    ]
    assert evaluation.metric == pytest.approx(correct[real].mean())  # padding is not scored
    assert evaluation.loss == pytest.approx(losses[real].mean(), rel=1e-5)


def test_sparsity_and_pieces_work_on_a_users_own_model(tmp_path):
    user_file = tmp_path / "tagging.py"
    user_file.write_text(_SEQUENCES)
    fields = {"model": f"{user_file}:tagger", "dataset": f"{user_file}:sentences", "batch_size": 16, "num_epochs": 1}
    whole = experiment.build(fields | {"pruner": "snip", "sparsity": 0.5})
    pieces = experiment.build(fields | {"pruner": "snip", "sparsity": 0.5, "accumulation_steps": 4})
    batch = whole.batch(0)
    whole_state, metrics = whole.train_step(whole.init(), batch)
    other, piece_metrics = pieces.train_step(pieces.init(), batch)
    assert float(metrics["loss"]) == pytest.approx(float(piece_metrics["loss"]), rel=1e-5)  # weighted by real words
    for a, b in zip(jax.tree.leaves(whole_state.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


_STREAM = """
import jax, numpy as np
from flatwide.types import Dataset

class Counter:
    \"\"\"A split that is computed as it is read.\"\"\"
    def __init__(self, indices, targets=None):
        self.indices = indices
        self.targets = (indices % 3).astype(np.int32) if targets is None else targets
    num_examples = property(lambda self: len(self.indices))
    def take(self, chosen): return Counter(self.indices[chosen], self.targets[chosen])
    def with_targets(self, targets): return Counter(self.indices, targets)
    def batches(self, batch_size, *, order, seed, epoch, train, first_batch=0):
        for start in range(first_batch * batch_size, len(order), batch_size):
            chosen = order[start : start + batch_size]
            inputs = np.eye(3, dtype=np.float32)[self.indices[chosen] % 3]
            yield {"inputs": inputs, "targets": self.targets[chosen]}

def stream():
    example = jax.ShapeDtypeStruct((3,), jax.dtypes.canonicalize_dtype(float))
    return Dataset(Counter(np.arange(50)), Counter(np.arange(31)), lambda batch, key, *, train: batch, example, 3, "s")
"""


@pytest.mark.parametrize(
    "calls", [0, pytest.param(6, marks=pytest.mark.slow)]
)  # within an epoch, and at the end of one
def test_a_stream_trains_stops_and_resumes_with_the_same_numbers(tmp_path, calls):
    user_file = tmp_path / "stream.py"
    user_file.write_text(_STREAM)
    fields = {
        "dataset": f"{user_file}:stream",
        "num_neurons": (8,),
        "batch_size": 8,
        "num_epochs": 6,
        "learning_rate": 0.5,
        "label_noise": 0.1,
    }
    fields |= {"validation_fraction": 0.2}
    whole = runner.run(fields, tmp_path / "whole", quiet=True)
    assert whole["test_metric"] == 1.0
    count = iter(range(100))
    with pytest.raises(driver.Stopped):
        runner.run(fields, tmp_path / "cut", should_stop=lambda: next(count) == calls, quiet=True)
    cut = runner.run(fields, tmp_path / "cut", quiet=True)
    for field in ("train_loss", "test_loss", "validation_loss", "test_metric_best", "best_epoch"):
        assert cut[field] == whole[field]


def test_an_edited_own_file_is_another_model(tmp_path):
    user_file = tmp_path / "edited.py"
    text = """
import jax.numpy as jnp
from flatwide.types import Model

def scaled(example, num_outputs):
    def init(key):
        return {"bias": jnp.zeros(num_outputs)}, {}
    def apply(params, stats, inputs, *, train, key):
        return SCALE * jnp.ones((inputs.shape[0], 1)) * (params["bias"] + jnp.arange(num_outputs)).reshape(1, -1), stats
    return Model(init, apply)
"""
    user_file.write_text(f"SCALE = 1.0\n{text}")
    fields = {"model": f"{user_file}:scaled", "num_train_steps": 1, "learning_rate": 0.0}
    first = runner.run(fields, tmp_path, quiet=True)
    user_file.write_text(f"SCALE = 0.0\n{text}")
    second = runner.run(fields, tmp_path, quiet=True)
    assert second["test_loss"] == pytest.approx(np.log(10), rel=1e-6)
    assert first["test_loss"] > second["test_loss"]
    before = next(
        path
        for path in (tmp_path / "runs").iterdir()
        if f'"test_loss": {first["test_loss"]!r}' in (path / "result.json").read_text()
    )
    with pytest.raises(ValueError, match="model_file changed since the run was trained"):
        load_run(before)


def test_64_bit_mode_leaks_into_no_later_run():
    with jax.enable_x64(True):
        double = experiment.build(FIELDS | {"seed": 77})
        assert double.init().params["output"]["kernel"].dtype == np.float64
    single = experiment.build(FIELDS | {"seed": 77})
    assert single.data.example.dtype == np.float32
    state, metrics = single.train_step(single.init(), single.batch(0))
    assert {leaf.dtype.name for leaf in jax.tree.leaves((state.params, metrics))} == {"float32"}


def test_a_users_flax_model_with_batch_norm_trains_in_64_bit_mode(float64, tmp_path):
    user_file = tmp_path / "normed.py"
    user_file.write_text("""
from flax import linen as nn
from flatwide.models.linen import from_linen

class Normed(nn.Module):
    num_outputs: int

    @nn.compact
    def __call__(self, images, *, train):
        hidden = nn.BatchNorm(use_running_average=not train, name="norm")(images.reshape(images.shape[0], -1))
        return nn.Dense(self.num_outputs, name="output")(hidden)

def normed(example, num_outputs):
    return from_linen(Normed(num_outputs), example)
""")
    result = runner.run({"model": f"{user_file}:normed", "num_train_steps": 3}, tmp_path, quiet=True)
    assert (result["status"], result["x64"]) == ("finished", True)


def test_a_config_error_is_raised_before_any_work(tmp_path):
    with pytest.raises(configs.ConfigError):
        runner.run(FIELDS | {"rho": -1}, tmp_path)
    assert list(tmp_path.iterdir()) == []
