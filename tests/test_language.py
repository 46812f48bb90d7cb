"""Language models: windows of a text, the decoder and its metric, from a config to a trained run."""

import gzip
import json
import lzma
import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import config as configs
from flatwide import data, experiment, objectives, runner, trees
from flatwide.data.text import text
from flatwide.models.gpt import gpt
from flatwide.types import Categories

TINY = {
    "model": "GPT",
    "dataset": "text",
    "loss": "next_token",
    "hidden_size": 16,
    "num_layers": 1,
    "context_length": 8,
    "base_optimizer": "adamw",
    "learning_rate": 0.01,
    "lr_scheduler": "constant",
    "batch_size": 16,
}


def network(hidden_size=8, num_layers=2, num_tokens=11, **fields):
    model = gpt(Categories((6,), num_tokens), num_tokens, hidden_size=hidden_size, num_layers=num_layers, **fields)
    params, _ = jax.jit(model.init)(jax.random.key(0))
    moved = trees.add(params, trees.scale(0.1, trees.random_normal(jax.random.key(1), params)))
    return moved, lambda params, tokens: model.apply(params, {}, tokens, train=True, key=None)[0]


@pytest.mark.parametrize("tie_embeddings", [False, True])
def test_no_output_depends_on_a_later_token(tie_embeddings):
    num_tokens = 12
    params, outputs_of = network(num_tokens=num_tokens, tie_embeddings=tie_embeddings, num_heads=2)
    rows = jnp.arange(num_tokens).reshape(2, 6)  # each place has a token, and so a vector, of its own

    def outputs(vectors):
        return outputs_of(params | {"words": {"embedding": vectors}}, rows)

    vectors = params["words"]["embedding"]
    if not tie_embeddings:  # else each output also reads its own vector
        jacobian = np.asarray(jax.jit(jax.jacobian(outputs))(vectors))  # [B, L, K, B L, d]
        reach = np.abs(jacobian).max(axis=(2, 4)).reshape(2, 6, 2, 6)
        for row in range(2):
            assert_array_equal(reach[row, :, 1 - row], 0)
            assert_array_equal(reach[row, :, row][np.triu_indices(6, 1)], 0)
            assert (reach[row, :, row][np.tril_indices(6)] > 0).all()
    before, after = outputs_of(params, rows), outputs_of(params, rows.at[:, 4].set(0))
    assert_array_equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).any(axis=-1).all()


def numpy_outputs(params, tokens, num_heads):
    """Run the decoder place by place and head by head."""

    def norm(scale, x):
        return scale["scale"] * x / np.sqrt(np.mean(x**2) + 1e-6)

    def turned(vector, place):
        half = len(vector) // 2
        turns = np.exp(1j * place / 10_000 ** (np.arange(half) / half))
        numbers = (vector[:half] + 1j * vector[half:]) * turns
        return np.append(numbers.real, numbers.imag)

    x = params["words"]["embedding"][tokens]
    for number in range(1, sum(name.startswith("block") for name in params) + 1):
        block = params[f"block_{number}"]
        parts = [np.split(norm(block["attention_norm"], row) @ block["query_key_value"]["kernel"], 3) for row in x]
        attended = np.zeros_like(x)
        for head in np.split(np.arange(x.shape[1]), num_heads):
            keys = [turned(key[head], place) for place, (_, key, _) in enumerate(parts)]
            for place, (query, _, _) in enumerate(parts):
                scores = np.array([turned(query[head], place) @ key for key in keys[: place + 1]])
                shares = np.exp(scores / np.sqrt(len(head)))
                attended[place, head] = shares @ [value[head] for _, _, value in parts[: place + 1]] / shares.sum()
        x = x + attended @ block["attention_output"]["kernel"]
        for place, row in enumerate(x):
            inner = norm(block["hidden_norm"], row) @ block["hidden"]["kernel"]
            inner = inner / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
            x[place] = row + inner @ block["hidden_output"]["kernel"]
    kernel = params["output"]["kernel"] if "output" in params else params["words"]["embedding"].T
    return np.array([norm(params["output_norm"], row) for row in x]) @ kernel


@pytest.mark.parametrize("fields", [{"num_heads": 2}, {"tie_embeddings": True}, {"mlp_ratio": 3}])
def test_outputs_agree_with_numpy(float64, fields):
    params, outputs_of = network(**fields)
    tokens = np.array([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])
    plain = jax.tree.map(np.asarray, params)
    outputs = jax.jit(outputs_of)(params, tokens)
    for row in range(2):
        expected = numpy_outputs(plain, tokens[row], fields.get("num_heads", 1))
        assert_allclose(outputs[row], expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("hidden_size", [32, 128])
def test_the_first_loss_is_that_of_equal_probabilities(hidden_size):
    built = experiment.build(TINY | {"hidden_size": hidden_size, "context_length": 64})
    loss = float(built.loss(built.init().params, {}, built.batch(0)))
    assert math.log(256) < loss < math.log(256) + 0.07


def test_what_it_cannot_be_built_for_is_said():
    with pytest.raises(ValueError, match=r"config\.hidden_size=10: expected a multiple of 4, .* such as 8\."):
        network(10, num_heads=2)
    with pytest.raises(ValueError, match=r"config\.tie_embeddings=True with 5 outputs and 11 tokens"):
        gpt(Categories((6,), 11), 5, tie_embeddings=True)
    with pytest.raises(configs.ConfigError, match=r"set config\.tie_embeddings=False\."):
        configs.resolve(TINY | {"tie_embeddings": True, "parameterization": "mup", "base_width": 8})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text.txt").write_bytes(bytes(range(96)) * 6)
    return tmp_path


def test_each_test_token_is_scored_once_after_half_a_window(folder):
    arrays = text(data_dir=str(folder), context_length=8).test.arrays
    is_scored = arrays["weights"] == 1
    assert_array_equal(arrays["targets"][is_scored], (np.arange(518, 576) % 96)[1:])
    assert_array_equal(arrays["inputs"][is_scored], (np.arange(518, 576) % 96)[:-1])
    assert (np.argmax(is_scored[1:], axis=1) >= 4).all()


def test_windows_of_an_epoch_are_moved_by_one_offset_and_depend_on_the_seed_only(folder):
    fields = TINY | {"data_dir": str(folder), "num_tokens": 3 * 4 * 16 * 8}
    built, other = experiment.build(fields), experiment.build(fields | {"seed": 1})
    assert (built.num_steps, built.steps_per_epoch) == (12, 4)
    offsets = set()
    for epoch in range(3):
        batches = [built.batch(4 * epoch + within) for within in range(4)]
        inputs, targets = (np.concatenate([batch[name] for batch in batches]) for name in ("inputs", "targets"))
        assert_array_equal((inputs + 1) % 96, targets)
        firsts = inputs[:, 0].astype(int)
        offsets.add(int(np.bincount(firsts % 8).argmax()))
        assert np.unique(firsts % 8, return_counts=True)[1].max() >= 63  # the last window may end with the text
    assert len(offsets) > 1
    assert (built.batch(0)["inputs"] != other.batch(0)["inputs"]).any()


def test_a_part_of_a_text_is_taken_by_position(folder):
    train, validation = data.hold_out(text(data_dir=str(folder), context_length=8).train, 0.25, seed=0)
    assert_array_equal(train.arrays["inputs"].reshape(-1), np.arange(48 * 8) % 96)
    held_out = validation.arrays["targets"][validation.arrays["weights"] == 1]
    assert_array_equal(held_out, np.arange(48 * 8 + 1, 64 * 8 + 1) % 96)
    assert_array_equal(data.subset(train, 3, seed=0).arrays["inputs"], train.arrays["inputs"][:3])


@pytest.mark.parametrize(("name", "pack"), [("a.txt.gz", gzip.compress), ("a.txt.xz", lzma.compress)])
def test_compressed_text_is_the_same_text(tmp_path, folder, name, pack):
    plain = text(data_dir=str(folder / "text.txt"), context_length=8)
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / name).write_bytes(pack((folder / "text.txt").read_bytes()))
    assert text(data_dir=str(packed), context_length=8).fingerprint == plain.fingerprint
    (packed / name).write_bytes(pack((folder / "text.txt").read_bytes())[:-9])
    with pytest.raises(data.DataError, match=r"damaged (gzip|xz) file"):
        text(data_dir=str(packed), context_length=8)


def test_tokens_of_nanogpt_are_mapped_and_checked(tmp_path):
    fields = {"data_dir": str(tmp_path), "context_length": 8, "tokenizer": "none", "vocab_size": 300}
    for name in ("train", "val"):
        (np.arange(100) * 3).astype("<u2").tofile(tmp_path / f"{name}.bin")
    dataset = text(**fields)
    assert_array_equal(dataset.train.arrays["targets"].reshape(-1), 3 * np.arange(1, 97))
    with pytest.raises(data.DataError, match=r"has token 297; expected tokens below config\.vocab_size=290"):
        text(**fields | {"vocab_size": 290})
    (tmp_path / "val.bin").write_bytes(b"abc")
    with pytest.raises(data.DataError, match=r"val\.bin: 3 bytes; expected tokens of 16 bits"):
        text(**fields)
    with pytest.raises(data.DataError, match=r"set config\.tokenizer=none for its train\.bin"):
        text(data_dir=str(tmp_path))


def test_wrong_texts_are_said_in_one_line(tmp_path):
    with pytest.raises(data.DataError, match=r"has no \.txt, .* file; give a folder of texts"):
        text(data_dir=str(tmp_path))
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(data.DataError, match=r"the text is empty"):
        text(data_dir=str(tmp_path))
    (tmp_path / "a.txt").write_text("some words")
    with pytest.raises(data.DataError, match=r"9 tokens of training text; expected more than .*context_length=128"):
        text(data_dir=str(tmp_path))
    with pytest.raises(data.DataError, match=r"config\.vocab_size=300 with config\.tokenizer='bytes'"):
        text(vocab_size=300)
    with pytest.raises(ValueError, match=r"label_noise=0\.1: the targets are uint8"):
        experiment.build(TINY | {"label_noise": 0.1})


def test_bits_of_a_byte_count_bytes_and_not_tokens():
    objective = objectives.next_token(4)
    batch = {"targets": jnp.array([[0, 1], [2, 3]]), "weights": jnp.array([[1.0, 0], [1, 1]])}
    batch["num_bytes"] = jnp.array([[3, 9], [1, 2]])
    outputs = jnp.zeros((2, 2, 4))
    predictions = jax.device_get(objective.predictions(outputs, batch))
    weights = np.asarray(objective.weights(batch))
    assert objective.metric(predictions, weights) == pytest.approx(3 * 2 / 6)
    assert (objective.metric_name, objective.higher_is_better) == ("bits_per_byte", False)


def test_a_run_reaches_the_count_table_with_a_context_of_one(tmp_path):
    """With one token of context the best network is the table of the pairs of bytes, counted here."""
    random = np.random.default_rng(0)
    table = random.dirichlet(np.full(6, 0.5), 6)
    tokens = [0]
    for _ in range(20_000):
        tokens.append(random.choice(6, p=table[tokens[-1]]))
    content = bytes(97 + token for token in tokens)
    (tmp_path / "chain.txt").write_bytes(content)
    fields = TINY | {"data_dir": str(tmp_path), "context_length": 1, "batch_size": 500, "rho": 0.0}
    fields |= {"num_train_steps": 500, "lr_scheduler": "cosine", "eval_every_steps": 500}
    result = runner.run(fields, tmp_path / "runs", quiet=True)
    train = np.array(tokens[:18_001])
    counts = np.zeros((6, 6))
    np.add.at(counts, (train[:-1], train[1:]), 1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    best = -np.sum(counts * np.log2(np.where(counts > 0, shares, 1))) / counts.sum()
    assert best - 1e-4 < result["train_metric"] < best + 0.01
    test = np.array(tokens[-2000:])
    assert result["test_chance_metric"] == pytest.approx(entropy(np.bincount(test[1:])))
    assert result["num_test_items"] == 1999


def entropy(counts):
    shares = counts[counts > 0] / counts.sum()
    return float(-np.sum(shares * np.log2(shares)))


def test_sam_learns_a_repeated_phrase_and_scores_part_of_the_training_text(tmp_path):
    (tmp_path / "phrase.txt").write_text("the quick brown fox jumps over the lazy dog. " * 100)
    fields = TINY | {"data_dir": str(tmp_path), "context_length": 32, "hidden_size": 32, "rho": 0.02}
    fields |= {"num_tokens": 32 * 16 * 250, "train_eval_examples": 20, "lr_scheduler": "wsd", "rho_schedule": "decay"}
    fields |= {"warmup_steps": 10, "weight_decay": 0.1, "weight_decay_on": "kernels", "gradient_clip": 1.0}
    result = runner.run(fields, tmp_path / "runs", quiet=True)
    assert result["test_metric"] < 0.05
    assert result["train_metric"] < 0.05
    assert result["num_gradients"] == 250 + 50  # SAM in the decay, the last fifth
    built = experiment.build(fields)
    assert built.scored_train.num_examples == 20
    assert built.learning_rate(249) == pytest.approx(0.01 / 50)
    (saved,) = (tmp_path / "runs" / "runs").iterdir()
    assert json.loads((saved / "config.json").read_text())["num_train_steps"] == 250


def test_norms_and_embeddings_do_not_decay_if_kernels_do():
    fields = TINY | {"rho": 0.0, "weight_decay": 0.5, "learning_rate": 0.1}
    for chosen in ("all", "kernels"):
        with_decay = experiment.build(fields | {"weight_decay_on": chosen})
        without = experiment.build(fields | {"weight_decay": 0.0})
        batch = without.batch(0)
        start = without.init().params
        moved, _ = with_decay.train_step(with_decay.init(), batch)
        plain, _ = without.train_step(without.init(), batch)
        decays = trees.kernels(start) if chosen == "kernels" else jax.tree.map(lambda _: True, start)
        expected = jax.tree.map(lambda w, p, d: p - 0.05 * w * d, start, plain.params, decays)
        jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=0, atol=1e-6), moved.params, expected)


def test_byte_pairs_are_trained_on_the_training_text_alone(tmp_path):
    pytest.importorskip("tokenizers")
    (tmp_path / "train.txt").write_text("abab abab é\n" * 50)
    (tmp_path / "val.txt").write_text("abab zq é\n" * 20)
    fields = {"data_dir": str(tmp_path), "context_length": 8, "tokenizer": "bpe", "vocab_size": 260}
    dataset = text(**fields)
    arrays = dataset.test.arrays
    scored = arrays["weights"] == 1
    first = 4  # "abab", which is one token and has no token before it
    assert int(arrays["num_bytes"][scored].sum()) == len(("abab zq é\n" * 20).encode()) - first
    assert [name for name, _ in dataset.files] == ["tokenizer.json"]
    (tmp_path / "val.txt").write_text("zq zq zq é\n" * 20)
    assert text(**fields).files == dataset.files
    with pytest.raises(data.DataError, match=r"config\.vocab_size=None with config\.tokenizer='bpe'"):
        text(**fields | {"vocab_size": None})
    (tmp_path / "val.txt").write_bytes(b"\xff" * 300)
    with pytest.raises(data.DataError, match=r"byte 0 of the text is not UTF-8"):
        text(**fields)


@pytest.mark.slow
def test_steps_agree_with_a_decoder_in_pytorch():
    """Runs the benchmark, which stops where losses or weights of AdamW's or SAM's first steps differ."""
    pytest.importorskip("torch")
    script = Path(__file__).parents[1] / "benchmarks" / "gpt_step.py"
    sizes = ["--hidden_size=32", "--num_layers=1", "--repeats=1"]
    done = subprocess.run([sys.executable, script, *sizes], capture_output=True, text=True, check=True)
    assert done.stdout.count("losses of 3 steps agree") == 2


def test_functional_sam_of_a_run_moves_the_jacobian_and_not_the_criterion():
    fields = TINY | {"base_optimizer": "sgd", "momentum": 0.0, "sam_variant": "functional", "rho": 0.3}
    built = experiment.build(fields | {"learning_rate": 1.0})
    state, batch = built.init(), built.batch(0)
    tokens, targets = (jnp.asarray(batch[name], int) for name in ("inputs", "targets"))

    def outputs(params):
        return built.model.apply(params, {}, tokens, train=True, key=None)[0]

    def criterion(outputs):
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(outputs), targets[..., None], -1))

    slopes = jax.grad(criterion)(outputs(state.params))
    clean = jax.grad(lambda params: criterion(outputs(params)))(state.params)
    moved = trees.add(state.params, trees.scale(0.3 / trees.norm(clean), clean))
    (gradient,) = jax.vjp(outputs, moved)[1](slopes)
    after, _ = built.train_step(state, batch)
    jax.tree.map(
        lambda a, w, g: assert_allclose(a, w - g, rtol=0, atol=1e-6), after.params, built.init().params, gradient
    )
