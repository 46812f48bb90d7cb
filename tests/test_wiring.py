"""Whole runs derived again from their configs: that each field reaches the program, and each number the files."""

import ast
import json
import math
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatwide
from flatwide import config as configs
from flatwide import experiment, objectives, registry, runner
from flatwide.config import SCHEMA
from flatwide.data.digits import digits
from flatwide.measurements import measuring
from flatwide.models.mlp import mlp
from flatwide.runs import load, parts
from flatwide.runs.identity import locate

ONE_HIDDEN_LAYER = {"model": "MLP", "num_neurons": (5,), "train_examples": 40, "batch_size": 16, "num_epochs": 3}
FIELDS = ONE_HIDDEN_LAYER | {
    "rho": 0.3,
    "learning_rate": 0.2,
    "lr_scheduler": "cosine",
    "warmup_steps": 2,
    "weight_decay": 0.02,
    "validation_fraction": 0.1,
    "label_noise": 0.2,
    "seed": 3,
}
CASES = {
    "nesterov-microbatch-clip": {"momentum": 0.8, "nesterov": True, "microbatch": 4, "gradient_clip": 0.3},
    "adam-adaptive": {
        "base_optimizer": "adam",
        "adam_betas": (0.6, 0.8),
        "adam_epsilon": 0.1,
        "sam_variant": "adaptive",
    },
    "adamw-layerwise-segments": {
        "base_optimizer": "adamw",
        "sam_variant": "layerwise",
        "layer_scales": ("output/.*=3.0",),
        "lr_scheduler": "linear",
        "eval_every_steps": 2,
        "steps_per_eval": 1,
    },
    "own-pruned": {
        "sam_variant": "growing.py:growing",
        "growth": 0.5,
        "lr_scheduler": "step",
        "pruner": "magnitude",
        "sparsity": 0.6,
    },
    "one-pass": {"rho": 0.0, "momentum": 0.0, "lr_scheduler": "inverse_sqrt", "gradient_clip": 0.1},
}


GROWING = """
import jax, jax.numpy as jnp
from flatwide.sam import AscentRule

def growing(rho, *, growth: float = 1.0):
    def perturb(gradient, params, steps, rho):
        return jax.tree.map(lambda g: rho * growth * steps * g, gradient), steps + 1
    return AscentRule(rho, perturb, init=lambda params: jnp.zeros(()))
"""


def stream(seed, name):
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), zlib.crc32(name.encode()))


def generator(seed, name):
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def order_of(seed, epoch, num_examples, num_drawn):
    key = jax.random.fold_in(stream(seed, "order"), epoch)
    return np.resize(np.asarray(jax.random.permutation(key, num_examples)), num_drawn)


def splits_of(config):
    """Cut and corrupt the digits: the inputs and labels of each split."""
    whole, seed = digits(), config["seed"]
    inputs, labels = np.asarray(whole.train.arrays["inputs"]), np.asarray(whole.train.targets)
    shuffled, held_out = generator(seed, "split").permutation(len(labels)), round(0.1 * len(labels))
    validation, rest = np.sort(shuffled[:held_out]), np.sort(shuffled[held_out:])
    chosen = rest[np.sort(generator(seed, "subset").permutation(len(rest))[:40])]
    noise, noisy = generator(seed, "noise"), labels[chosen].copy()
    moved, shifts = noise.permutation(40)[:8], noise.integers(1, 10, size=40)
    noisy[moved] = (noisy[moved] + shifts[moved]) % 10
    return {
        "train": (inputs[chosen] / 16, noisy),
        "validation": (inputs[validation] / 16, labels[validation]),
        "test": (np.asarray(whole.test.arrays["inputs"]) / 16, np.asarray(whole.test.targets)),
    }


def logits_of(params, inputs):
    hidden = inputs.reshape(len(inputs), -1) @ params["hidden_0"]["kernel"] + params["hidden_0"]["bias"].reshape(1, -1)
    return jnp.maximum(hidden, 0) @ params["output"]["kernel"] + params["output"]["bias"].reshape(1, -1)


def mean_loss(params, inputs, labels):
    return -jnp.mean(jax.nn.log_softmax(logits_of(params, inputs))[np.arange(len(labels)), labels])


def each(function, *trees):
    return jax.tree.map(function, *trees)


def norm(tree):
    return math.sqrt(sum(float(np.sum(np.square(leaf))) for leaf in jax.tree.leaves(tree)))


def perturbation_of(config, params, gradient, step):
    def factor(path, weights):
        name = "/".join(part.key for part in path)
        if config["sam_variant"] == "adaptive":
            return np.abs(weights) + 0.01 if name.endswith("kernel") else np.ones_like(weights)
        return 3.0 if config["sam_variant"] == "layerwise" and name.startswith("output") else 1.0

    factors = jax.tree_util.tree_map_with_path(factor, params)
    if "growth" in config:
        return each(lambda g: config["rho"] * config["growth"] * step * g, gradient)
    if config["sam_variant"] == "adaptive":
        length = norm(each(np.multiply, factors, gradient))
        return each(lambda g, s: config["rho"] * s**2 * g / length, gradient, factors)
    return each(lambda g, s: config["rho"] * s * g / norm(gradient), gradient, factors)


def sam_gradient(config, differentiate, params, inputs, labels, mask, step):
    """Average over microbatches the gradients at w + eps; the loss is that at w."""
    size = config["microbatch"] or len(labels)
    pieces = [slice(start, start + size) for start in range(0, len(labels), size)]
    losses, gradients = [], []
    for piece in pieces:
        loss, gradient = differentiate(params, inputs[piece], labels[piece])
        if config["rho"] > 0:
            perturbation = perturbation_of(config, params, each(np.multiply, gradient, mask), step)
            _, gradient = differentiate(each(np.add, params, perturbation), inputs[piece], labels[piece])
        losses.append(float(loss))
        gradients.append(each(np.multiply, gradient, mask))
    return np.mean(losses), each(lambda *leaves: np.mean(leaves, axis=0), *gradients)


def direction_of(config, gradient, params, first, second, count):
    """Take the optimizer's part of a step; its two moments (the first is the velocity of sgd) are changed in place."""
    clip, decay, (beta1, beta2) = config["gradient_clip"], config["weight_decay"], config["adam_betas"]
    if clip is not None and norm(gradient) > clip:
        gradient = each(lambda g: g * clip / norm(gradient), gradient)
    if config["base_optimizer"] != "adamw":
        gradient = each(lambda g, w: g + decay * w, gradient, params)
    if config["base_optimizer"] == "sgd":
        first = each(lambda v, g: config["momentum"] * v + g, first, gradient)
        looks_ahead = config["nesterov"]
        return each(lambda v, g: g + config["momentum"] * v if looks_ahead else v, first, gradient), first, second
    first = each(lambda m, g: beta1 * m + (1 - beta1) * g, first, gradient)
    second = each(lambda s, g: beta2 * s + (1 - beta2) * g**2, second, gradient)
    direction = each(
        lambda m, s: (m / (1 - beta1**count)) / (np.sqrt(s / (1 - beta2**count)) + config["adam_epsilon"]),
        first,
        second,
    )
    if config["base_optimizer"] == "adamw":
        direction = each(lambda d, w: d + decay * w, direction, params)
    return direction, first, second


def learning_rate_of(config, step, num_steps):
    warmup, name = config["warmup_steps"], config["lr_scheduler"]
    left = min(1, (num_steps - step) / (num_steps - warmup))
    shape = {
        "cosine": (1 - math.cos(math.pi * left)) / 2,
        "linear": left,
        "step": 0.1 ** ((step >= num_steps / 2) + (step >= 3 * num_steps / 4)),
        "inverse_sqrt": 1 / math.sqrt(max(step, warmup, 1)),
    }[name]
    return config["learning_rate"] * min(1, step / warmup) * shape


def kept_by_magnitude(params, sparsity):
    """Keep the largest kernel entries of the whole network, and all biases."""
    kernels = np.concatenate([np.abs(layer["kernel"]).ravel() for layer in params.values()])
    smallest = np.sort(kernels)[len(kernels) - round((1 - sparsity) * len(kernels))]
    return {
        name: {"kernel": np.abs(layer["kernel"]) >= smallest, "bias": np.ones_like(layer["bias"])}
        for name, layer in params.items()
    }


def derive(config):
    """Train as a config says; the rows of metrics.csv, and the weights at the end."""
    splits, num_steps = splits_of(config), 9
    example = jax.ShapeDtypeStruct((8, 8, 1), float)
    params, _ = mlp(example, 10, num_neurons=(5,)).init(stream(config["seed"], "weights"))
    params = each(np.asarray, params)
    mask = kept_by_magnitude(params, config["sparsity"])
    params = each(np.multiply, params, mask)
    first, second = each(np.zeros_like, params), each(np.zeros_like, params)
    differentiate, rows, losses = jax.jit(jax.value_and_grad(mean_loss)), [], []
    for step in range(num_steps):
        chosen = order_of(config["seed"], step // 3, 40, 48)[step % 3 * 16 :][:16]
        batch = [array[chosen] for array in splits["train"]]
        loss, gradient = sam_gradient(config, differentiate, params, *batch, mask, step)
        direction, first, second = direction_of(config, gradient, params, first, second, step + 1)
        rate = learning_rate_of(config, step, num_steps)
        params = each(lambda w, d, rate=rate: w - rate * d, params, direction)
        losses.append(loss)
        is_last = step + 1 == num_steps
        if (step + 1) % (config["eval_every_steps"] or 3) == 0 or is_last:
            row = {"step": step + 1, "epoch": (step + 1) / 3, "learning_rate": rate}
            row["running_train_loss"], losses = np.mean(losses), []
            for name, (inputs, labels) in splits.items():
                scored = slice(None) if is_last or not config["steps_per_eval"] else slice(16)
                is_scored = name != "train" or is_last
                row[f"{name}_loss"] = float(mean_loss(params, inputs[scored], labels[scored])) if is_scored else None
                correct = np.argmax(np.asarray(logits_of(params, inputs[scored])), axis=1) == labels[scored]
                row[f"{name}_metric"] = float(np.mean(correct)) if is_scored else None
            rows.append(row)
    return rows, params


def train(fields, workdir):
    """Train with the driver; the rows, the result and the last state."""
    result = runner.run(fields, workdir, quiet=True, tensorboard=False)
    directory, _ = locate(configs.resolve(fields), workdir)
    return directory.read_metrics(), result, load.final_state(directory, experiment.build(fields))


def assert_rows_agree(rows, expected, rtol=1e-9):
    assert [list(row) for row in rows] == [list(row) for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        for name, value in wanted.items():
            assert (row[name] is None) == (value is None), (row["step"], name)
            assert value is None or row[name] == pytest.approx(value, rel=rtol), (row["step"], name)


def assert_trees_agree(actual, expected, rtol=1e-9):
    for (path, leaf), (_, expected_leaf) in zip(*map(jax.tree.leaves_with_path, (actual, expected)), strict=True):
        assert_allclose(leaf, expected_leaf, rtol=rtol, atol=1e-12, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("case", CASES)
def test_a_run_is_what_its_config_says(float64, tmp_path, monkeypatch, case):
    (tmp_path / "growing.py").write_text(GROWING)
    monkeypatch.chdir(tmp_path)
    fields = FIELDS | CASES[case]
    expected, params = derive(configs.resolve(fields))
    rows, result, state = train(fields, tmp_path)
    assert_rows_agree(rows, expected)
    assert_trees_agree(state.params, params)
    best = max(expected, key=lambda row: row["test_metric"])
    assert (result["test_metric_best"], result["best_epoch"]) == (pytest.approx(best["test_metric"]), best["epoch"])
    chosen = max(expected, key=lambda row: row["validation_metric"])
    assert result["test_metric_at_best_validation"] == pytest.approx(chosen["test_metric"])


def test_the_best_epoch_is_that_of_the_lowest_metric_where_lower_is_better(tmp_path):
    fields = {"num_neurons": (2,), "dataset": "teacher_student", "loss": "squared", "train_examples": 40}
    rows, result, _ = train(ONE_HIDDEN_LAYER | fields | {"learning_rate": 0.02}, tmp_path)
    errors = [row["test_metric"] for row in rows]
    assert errors[0] != errors[-1]
    assert (result["test_metric_best"], result["best_epoch"]) == (min(errors), 1 + np.argmin(errors))


def test_fields_reach_what_declares_them():
    """Those of a data set and of an objective, as those of models, variants and optimizers do above."""
    fields = ONE_HIDDEN_LAYER | {"dataset": "teacher_student", "loss": "squared"}
    wide, narrow = (experiment.build(fields | {"teacher_scale": scale}).train.targets for scale in (1.0, 0.1))
    assert not np.allclose(wide, narrow)
    played = configs.resolve({"model": "ActorCritic", "dataset": "minatar_breakout", "loss": "ppo", "clip_ratio": 0.3})
    targets = dict.fromkeys(("advantage", "return", "clip_factor"), jnp.ones(1))
    unlikely = {"action": jnp.zeros(1, int), "log_probability": -2 * jnp.ones(1)}
    batch = {"inputs": jnp.zeros((1, 1)), "targets": targets | unlikely}
    outputs = {"logits": jnp.zeros((1, 2)), "values": jnp.ones(1)}
    objective = parts.objective_of(played, parts.Targets(2, False))
    expected = objectives.ppo(2, clip_ratio=0.3)
    assert objective.losses(outputs, batch) == expected.losses(outputs, batch)
    assert objective.losses(outputs, batch) != objectives.ppo(2).losses(outputs, batch)


def test_every_field_is_used():
    """A row of the schema alone does nothing: its name is a keyword or a key of the config somewhere in the package."""
    used = set()
    for path in Path(flatwide.__file__).parent.rglob("*.py"):
        if path.name == "schema.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                used |= {argument.arg for argument in node.args.kwonlyargs}
            elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                used.add(node.slice.value)
    assert SCHEMA.keys() - used == set()


RANDOM = """
import functools
import jax, jax.numpy as jnp, numpy as np
from flatwide.data import Resident, Streamed
from flatwide.measurements.subject import Measured
from flatwide.types import Dataset, Model

SIZES = []  # of the batches that the network was traced for

def arrays(seed, count):
    inputs = np.random.default_rng(seed).normal(size=(count, 4))
    return inputs, (inputs[:, 0] > 0).astype(np.int32)

def made(kind):
    def prepare(batch, key, *, train):
        noise = jax.random.normal(key, batch["inputs"].shape) if train else 0
        return {**batch, "inputs": batch["inputs"] + noise}
    example = jax.ShapeDtypeStruct((4,), jax.dtypes.canonicalize_dtype(float))
    return Dataset(kind(*arrays(0, 20)), kind(*arrays(1, 13)), prepare, example, 2, kind.__name__)

def held(inputs, targets): return Resident({"inputs": inputs, "targets": targets})
def read(inputs, targets): return Streamed(lambda index, generator: inputs[index], targets)
def resident(): return made(held)
def streamed(): return made(read)

def random(example, num_outputs):
    def init(key):
        return {"kernel": jax.random.normal(key, (4, num_outputs))}, {"mean": jnp.zeros(4)}
    def apply(params, stats, inputs, *, train, key):
        SIZES.append(len(inputs))
        mean = jnp.mean(inputs, axis=0) if train else stats["mean"]
        inputs = inputs - mean.reshape(1, -1)
        if train:
            inputs = jnp.where(jax.random.bernoulli(key, 0.5, inputs.shape), 2 * inputs, 0)
            stats = {"mean": 0.9 * stats["mean"] + 0.1 * mean}
        return inputs @ params["kernel"], stats
    return Model(init, apply)

def seen(subject, *, key):
    return Measured({"draw": float(jax.random.uniform(key)), "num_examples": len(subject.examples["targets"])})
"""


@pytest.fixture
def random_fields(tmp_path):
    """Write a network with dropout and batch statistics, and data with augmentation, small enough to derive again."""
    module = tmp_path / "random.py"
    module.write_text(RANDOM)
    return {
        "model": f"{module}:random",
        "dataset": f"{module}:resident",
        "batch_size": 8,
        "num_epochs": 2,
        "rho": 0.3,
        "seed": 5,
        "measurements": (f"{module}:seen",),
        "measure_examples": 12,
    }


def cross_entropy(params, inputs, labels):
    return -jnp.mean(jax.nn.log_softmax(inputs @ params["kernel"])[np.arange(len(labels)), labels])


@pytest.mark.parametrize("kind", ["resident", "streamed"])
@pytest.mark.slow
def test_chance_is_drawn_anew_for_each_step_and_not_in_evaluation(float64, tmp_path, random_fields, kind):
    fields = random_fields | {"dataset": random_fields["dataset"].replace("resident", kind)}
    rows, _, state = train(fields, tmp_path)

    made = registry.find("config.dataset", fields["dataset"], {}).__globals__["arrays"]
    (inputs, labels), (test_inputs, test_labels) = made(0, 20), made(1, 13)
    params, mean, velocity = {"kernel": jax.random.normal(stream(5, "weights"), (4, 2))}, np.zeros(4), 0
    for step in range(6):
        chosen = order_of(5, step // 3, 20, 24)[step % 3 * 8 :][:8]
        key = jax.random.fold_in(stream(5, "augmentation"), step)
        augmented = inputs[chosen] + jax.random.normal(key, (8, 4))
        kept = jax.random.bernoulli(jax.random.fold_in(stream(5, "dropout"), step), 0.5, (8, 4))
        dropped = 2 * kept * (augmented - jnp.mean(augmented, axis=0, keepdims=True))
        mean = 0.9 * mean + 0.1 * jnp.mean(augmented, axis=0)
        gradient = jax.grad(cross_entropy)(params, dropped, labels[chosen])
        perturbed = {"kernel": params["kernel"] + 0.3 * gradient["kernel"] / jnp.linalg.norm(gradient["kernel"])}
        gradient = jax.grad(cross_entropy)(perturbed, dropped, labels[chosen])
        velocity = 0.9 * velocity + gradient["kernel"]
        rate = 0.1 * 0.1 ** ((step >= 3) + (step >= 5))
        params = {"kernel": params["kernel"] - rate * velocity}

    assert_trees_agree((state.params, state.stats), (params, {"mean": mean}))
    centred = test_inputs - np.asarray(mean)[None]
    assert rows[-1]["test_loss"] == pytest.approx(float(cross_entropy(params, centred, test_labels)), rel=1e-9)
    assert rows[-1]["test_metric"] == np.mean(np.argmax(centred @ params["kernel"], axis=1) == test_labels)

    directory, _ = locate(configs.resolve(fields), tmp_path)
    subject = measuring.open_run(directory, num_examples=12).subject(None)
    chosen = np.sort(generator(5, "measurement").permutation(20)[:12])
    assert_allclose(subject.examples["inputs"], inputs[chosen])
    measured = jax.grad(cross_entropy)(params, inputs[chosen] - np.asarray(mean)[None], labels[chosen])
    gradient_of_run = jax.grad(subject.loss_fn)(subject.params, subject.examples, subject.stats)
    assert_trees_agree(gradient_of_run, measured)
    (path,) = directory.path.glob("measurements/seen-*.json")
    draw = float(jax.random.uniform(stream(5, "measurement seen")))
    assert json.loads(path.read_text())["values"] == {"draw": draw, "num_examples": 12}
    loaded = load.load_run(directory.path)
    assert_allclose(loaded.apply(test_inputs), centred @ params["kernel"], rtol=1e-9)


@pytest.mark.parametrize(
    ("fields", "size"), [({}, 8), ({"microbatch": 4}, 4), ({"accumulation_steps": 4}, 2), ({"rho": 0.0}, 8)]
)
def test_no_more_examples_are_in_memory_than_the_config_says(random_fields, fields, size):
    built = experiment.build(random_fields | fields)
    sizes = registry.find("config.model", random_fields["model"], {}).__globals__["SIZES"]
    state, batch = built.state_shapes(), built.batch(0)
    sizes.clear()
    jax.eval_shape(built.step, built.values, state, batch)
    assert set(sizes) == {size}
