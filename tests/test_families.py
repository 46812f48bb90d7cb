"""Each family of models on its kind of data, tiny: trained sparse with SAM, stopped, measured, and without ascent."""

import gzip
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import config as configs
from flatwide import experiment, runner, trees
from flatwide.measurements import measuring
from flatwide.runs import driver
from flatwide.runs.identity import locate
from flatwide.runs.load import final_state, rebuild
from flatwide.training.segments import compiled_step

TINY = {
    "rho": 0.1,
    "learning_rate": 0.05,
    "weight_decay": 1e-3,
    "sparsity": 0.3,
    "batch_size": 16,
    "num_epochs": 2,
    "checkpoint_every_seconds": 0.0,
    "measure_examples": 12,
}
IMAGES = {"dataset": "digits", "train_examples": 48, "pruner": "magnitude"}
LINES = {"model": "MLP", "dataset": "teacher_student", "loss": "squared", "train_examples": 48, "pruner": "snip"}
WORDS = {"hidden_size": 4, "dropout": 0.5, "size_window": 1, "pruner": "snip"}
TAGS = WORDS | {"model": "TaggingTransformer", "dataset": "conllu", "base_optimizer": "adamw", "learning_rate": 0.01}
MOLECULES = {"model": "GCN", "dataset": "ogbg_molpcba", "loss": "binary_cross_entropy", "base_optimizer": "adam"}
MOLECULES |= {"hidden_size": 4, "num_layers": 1, "dropout": 0.5, "learning_rate": 0.01, "pruner": "snip"}
GAME = {"model": "ActorCritic", "num_filters": 1, "loss": "ppo", "base_optimizer": "adam", "learning_rate": 0.001}
GAME |= {"num_envs": 2, "unroll_length": 16, "update_epochs": 1, "num_test_games": 1, "pruner": "magnitude"}

FAMILIES = {
    "MLP": IMAGES | {"model": "MLP", "num_neurons": (3,), "pruner": "snip"},
    "MLP, regression": LINES | {"num_neurons": (2,)},
    "ResNet18": IMAGES | {"model": "ResNet18", "num_filters": 1, "num_blocks": (1, 1)},
    "ViT": IMAGES | {"model": "ViT", "hidden_size": 4, "num_layers": 1, "dropout": 0.5},
    "TaggingTransformer": TAGS | {"num_layers": 1},
    "LSTM": WORDS | {"model": "LSTM", "dataset": "labelled_text"},
    "GCN": MOLECULES,
    "ActorCritic": GAME | {"dataset": "minatar_breakout"},
    "ActorCritic, Atari": GAME | {"dataset": "atari_breakout"},
}
NEEDS = {"minatar_breakout": ("gymnax", "games"), "atari_breakout": ("ale_py", "atari")}
HEAVY = (
    "ResNet18",
    "ActorCritic",
    "ActorCritic, Atari",
    "LSTM",
    "ViT",
    "GCN",
)  # ten seconds each, most of it to compile
CASES = [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in FAMILIES]
WITH_DROPOUT = ("ViT", "TaggingTransformer", "LSTM", "GCN")
LARGEST_DENSE = 700  # kept weights whose Hessian is made whole


SIZES = [4 if number % 6 == 0 else 5 for number in range(60)]  # so that each batch needs the room of the longest


def write_tagging(folder):
    """Write sentences in which every word of one tag follows a word of the other."""
    random = np.random.default_rng(0)
    tags = [[("NOUN", "VERB")[index % 2] for index in range(size)] for size in SIZES]
    rows = [[f"{tag.lower()}{random.integers(3)}\t_\t{tag}" + "\t_" * 6 for tag in sentence] for sentence in tags]
    text = ["".join(f"{index}\t{row}\n" for index, row in enumerate(sentence, 1)) for sentence in rows]
    (folder / "made.conllu").write_text("\n".join(text) + "\n")


def write_texts(folder):
    """Write texts that begin with what they are."""
    random = np.random.default_rng(0)
    rows = [
        [f"{('bad', 'good')[number % 2]}", *random.choice(["a", "b", "c"], size - 1)]
        for number, size in enumerate(SIZES)
    ]
    text = "".join(f"{' '.join(words)}\t{number % 2}\n" for number, words in enumerate(rows))
    (folder / "made.tsv").write_text("sentence\tlabel\n" + text)


def write_molecules(folder):
    """Write rings of carbon and nitrogen as OGB writes molecules; what is asked of each is its size and an atom."""
    random = np.random.default_rng(0)
    rings = [random.choice([5, 6], size) for size in SIZES]
    tables = {
        "raw/num-node-list": [[size] for size in SIZES],
        "raw/num-edge-list": [[size] for size in SIZES],
        "raw/node-feat": [[element, 0, 2, 5, 0, 0, 1, 0, 1] for ring in rings for element in ring],
        "raw/edge": [[atom, (atom + 1) % size] for size in SIZES for atom in range(size)],
        "raw/graph-label": [[int(len(ring) > 4), int(ring[0] == 5)] for ring in rings],
        "split/scaffold/train": [[number] for number in range(48)],
        "split/scaffold/valid": [[48]],
        "split/scaffold/test": [[number] for number in range(49, 60)],
    }
    for name, rows in tables.items():
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("".join(",".join(map(str, row)) + "\n" for row in rows).encode()))


WRITERS = {"conllu": write_tagging, "labelled_text": write_texts, "ogbg_molpcba": write_molecules}


@pytest.fixture(scope="module")
def fields_of(tmp_path_factory):
    """Return a function family -> fields, which has written the data; skip where an extra is missing."""
    folders = {name: tmp_path_factory.mktemp(name) for name in WRITERS}
    for name, write in WRITERS.items():
        write(folders[name])

    def find(family):
        fields = TINY | FAMILIES[family]
        module, extra = NEEDS.get(fields["dataset"], ("jax", ""))
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install 'flatwide[{extra}]'")
        folder = folders.get(fields["dataset"])
        return fields | ({"data_dir": str(folder)} if folder else {})

    return find


SLOW = ("TaggingTransformer", "MLP, regression")  # `test_it_measures_a_trained_network` and others train them


@pytest.fixture(scope="module", params=[pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CASES])
def run(request, fields_of, tmp_path_factory):
    """Train a network of the family, and measure it."""
    fields = fields_of(request.param) | {"measurements": ("curvature",)}
    workdir = tmp_path_factory.mktemp("run")
    result = runner.run(fields, workdir, quiet=True)
    directory, _ = locate(configs.resolve(fields), workdir)
    return fields, result, directory


def test_a_sparse_network_trains_with_sam_to_its_end(run):
    fields, result, directory = run
    built = rebuild(directory)
    begun, state = built.init(), final_state(directory, built)
    assert (result["status"], result["steps"], int(state.step)) == ("finished", built.num_steps, built.num_steps)
    assert built.num_steps > 2
    assert all(np.isfinite(row["test_metric"]) for row in directory.read_metrics())
    assert np.isfinite(result["train_loss"])

    is_kernel = jax.tree.leaves(trees.kernels(state.params))
    before, after, kept = (
        [np.asarray(leaf) for leaf, chosen in zip(jax.tree.leaves(tree), is_kernel, strict=True) if chosen]
        for tree in (begun.params, state.params, state.mask)
    )
    total = sum(leaf.size for leaf in after)
    num_kept = round((1 - fields["sparsity"]) * total)
    assert sum(int(mask.sum()) for mask in kept) == num_kept
    assert sum(int(np.count_nonzero(leaf)) for leaf in after) == num_kept
    assert result["num_nonzero_params"] == trees.size(state.params) - total + num_kept
    for first, last, mask in zip(before, after, kept, strict=True):
        assert not last[~mask].any()
        assert not mask.any() or np.any(first != last)


def test_its_curvature_is_that_of_the_dense_hessian_or_has_a_small_residual(run):
    _, _, directory = run
    measured = json.loads((directory.path / "measurements" / "curvature-examples12.json").read_text())["values"]
    assert all(np.isfinite(value) for value in measured.values())
    top = measured["top_eigenvalue"]
    assert top > 0
    assert measured["largest_residual"] < 1e-3 * top
    subject = measuring.open_run(directory, num_examples=12).subject(None)
    flat, unravel = ravel_pytree(subject.params)
    whole = jax.tree.map(lambda leaf, mask: np.broadcast_to(mask, leaf.shape), subject.params, subject.mask)
    kept = np.flatnonzero(ravel_pytree(whole)[0])
    if len(kept) > LARGEST_DENSE:
        assert subject.built.config["dataset"] == "atari_breakout"  # the screens take most of its weights
        return

    def loss(point):
        return subject.loss_fn(unravel(flat.at[kept].set(point)), subject.examples, subject.stats)

    values = np.linalg.eigvalsh(np.asarray(jax.jit(jax.hessian(loss))(flat[kept]), np.float64))
    assert top == pytest.approx(values[-1], rel=1e-3)
    assert measured["smallest_eigenvalue"] == pytest.approx(values[0], abs=1e-3 * top)


def test_it_is_stopped_and_goes_on_with_the_same_bits(run, tmp_path):
    fields, _, directory = run
    fields = fields | {"measurements": ()}
    with pytest.raises(driver.Stopped):
        runner.run(fields, tmp_path, should_stop=lambda: True, quiet=True)
    cut, _ = locate(configs.resolve(fields), tmp_path)
    path = max(cut.checkpoints.glob("step_*.npz"))
    assert 0 < int(path.stem.partition("_")[2]) < experiment.build(fields).num_steps
    runner.run(fields, tmp_path, quiet=True)
    assert (cut.path / "metrics.csv").read_text() == (directory.path / "metrics.csv").read_text()
    with np.load(cut.checkpoints / "final.npz") as resumed, np.load(directory.checkpoints / "final.npz") as whole:
        for name in whole.files:
            if "metadata" not in name:
                assert_array_equal(resumed[name], whole[name])


@pytest.mark.parametrize("family", CASES)
def test_two_passes_at_rho_zero_are_its_optimizer_bit_for_bit(fields_of, family):
    assert_two_passes_are_one(fields_of(family))


@pytest.mark.slow
@pytest.mark.parametrize("base", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("family", FAMILIES)
def test_two_passes_at_rho_zero_are_any_optimizer_bit_for_bit(fields_of, family, base):
    assert_two_passes_are_one(fields_of(family) | {"base_optimizer": base})


def assert_two_passes_are_one(fields):
    """Compare the program that a run at rho 0 has with that of SAM at rho 0.

    With XLA's optimizations the sums of ResNet18's batch norm differ in their last bits, which Adam makes a thousandth
    of its steps where gradients are nearly 0.
    """
    tolerance = 1e-4 if fields["model"] == "ResNet18" else 0
    one_pass, two_passes = experiment.build(fields | {"rho": 0.0}), experiment.build(fields)
    values = two_passes.values._replace(rho=jnp.zeros(()))
    alone, traced, ascended = one_pass.init(), two_passes.init(), two_passes.init()
    for index in range(2):
        batch = one_pass.batch(index)
        alone, _ = one_pass.train_step(alone, batch)
        traced, _ = compiled_step(two_passes.step)(values, traced, batch)
        ascended, _ = two_passes.train_step(ascended, batch)
    for alone_leaf, traced_leaf in zip(jax.tree.leaves(alone.params), jax.tree.leaves(traced.params), strict=True):
        assert_allclose(alone_leaf, traced_leaf, rtol=0, atol=tolerance)
    assert np.any(ravel_pytree(alone.params)[0] != ravel_pytree(ascended.params)[0])  # the ascent is in the program


@pytest.mark.parametrize("family", WITH_DROPOUT)
@pytest.mark.slow
def test_both_passes_drop_the_same(fields_of, family):
    """As rho goes to 0 SAM's gradient is that of one pass, which a mask of its own in the second would prevent."""
    fields = fields_of(family)
    one_pass, two_passes = experiment.build(fields | {"rho": 0.0}), experiment.build(fields)
    batch, drawn = one_pass.batch(0), one_pass.init().params
    # Biases that are not 0, else a ReLU whose inputs are all dropped is at its kink.
    params = trees.add(drawn, trees.scale(0.1, trees.random_normal(jax.random.key(0), drawn)))

    def moments(built, rho, seed=0):
        """Take a first step; what the optimizer remembers of it is its gradient, and nothing else."""
        values = built.values._replace(rho=jnp.float32(rho), seed=jnp.uint32(seed))
        state, _ = compiled_step(built.step)(values, built.init(params=params), batch)
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.optimizer) if leaf.ndim])

    alone = moments(one_pass, 0.0)
    assert np.linalg.norm(moments(two_passes, 1e-5) - alone) < 0.01 * np.linalg.norm(alone)
    assert np.linalg.norm(moments(one_pass, 0.0, seed=1) - alone) > 0.1 * np.linalg.norm(alone)  # with another mask
