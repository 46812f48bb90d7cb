"""The sequence tagger of Flax's examples: an encoder Transformer with a linear layer on each word.

Written without Flax, as one scan over the stacked weights of its blocks, which is unrolled where blocks are few: in a
loop, XLA copies what each block keeps for its backward pass into arrays of all blocks, and fuses nothing across them.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide.models import linen
from flatwide.models.dropout import apply_mask, keep
from flatwide.types import Array, Model, PyTree

NUM_LAYERS = 6
DROPOUT = 0.3
PADDING = 0  # the token that nothing attends to
_HEAD_SIZE = 64
_HIDDEN_FACTOR = 4
_LONGEST_WAVE = 10_000.0
_NORM_EPSILON = 1e-6
_MASKED = -1e30  # finite, so that a sentence without words has no NaN


class Shape(NamedTuple):
    """The sizes and options of a Transformer."""

    num_words: int
    num_outputs: int
    size: int
    num_heads: int
    num_layers: int
    half_precision: bool
    dropout: float = 0.0
    mlp_ratio: int = 4
    tie_embeddings: bool = False

    @property
    def dtypes(self) -> linen.Dtypes:
        return linen.dtypes(half_precision=self.half_precision)


def tagging_transformer(
    example: PyTree,
    num_outputs: int,
    *,
    hidden_size: int = 128,
    num_layers: int | None = None,
    dropout: float | None = None,
    half_precision: bool = False,
) -> Model:
    """Build an encoder Transformer with outputs for each word of a sentence.

    Layers are `words`, `block_1/attention_norm`, `block_1/query_key_value`, `.../attention_output`, `.../hidden_norm`,
    `.../hidden`, `.../hidden_output`, `output_norm`, `output`; norms come before attention and dense layers.

    Args:
      example: one row of tokens, `types.Categories`; token 0 is padding, which changes no output of a word.
      hidden_size: entries d of each word's vector; there are d / 64 heads, rounded down and at least 1, and the inner
        dense layer has 4 d units.
      num_layers: blocks; None is 6.
      dropout: fraction of word vectors, of attention weights, of the inner units and of what each block adds that is
        set to zero in training; None is 0.3.
      half_precision: multiply in bfloat16; parameters, norms, softmax and outputs stay in float32.
    Returns: Model with Xavier-uniform kernels, zero biases and word vectors N(0, 1/d); outputs [B, L, num_outputs].
    Raises: ValueError if a size is no integer >= 1, the example is no row of words, or the heads do not divide
      hidden_size.
    Equation: x = E[token] + p, p_(l, 2i) = sin(l w_i), p_(l, 2i+1) = cos(l w_i), w_i = 10000^(-2i/d); in each block
      x = x + attention(norm(x)), x = x + W_2 elu(W_1 norm(x) + b_1) + b_2; outputs = W norm(x) + b.
    Source: Flax's sequence-tagging example, which the paper names as its source and whose 6 layers, 4 d, elu and d / 64
      heads give the paper's counts (docs/models.md); the attention mask is ours, the example attends to padding.
    """
    num_words = linen.check_words("TaggingTransformer", example)
    size = linen.check_size("hidden_size", hidden_size)
    layers = NUM_LAYERS if num_layers is None else linen.check_size("num_layers", num_layers)
    rate = DROPOUT if dropout is None else dropout
    shape = Shape(
        num_words=num_words,
        num_outputs=num_outputs,
        size=size,
        num_heads=linen.heads_of(size, head_size=_HEAD_SIZE),
        num_layers=layers,
        dropout=rate,
        half_precision=half_precision,
    )

    def apply(params: PyTree, stats: PyTree, inputs: PyTree, *, train: bool, key: Array | None = None):
        if not train or rate == 0:
            key = None
        elif key is None:
            raise ValueError("key=None: expected a PRNG key, which dropout needs in training; or config.dropout=0.")
        return _outputs(shape, params, inputs, key), stats

    return Model(functools.partial(_init, shape), apply)


def _init(shape: Shape, key: Array) -> tuple[PyTree, PyTree]:
    size, full = shape.size, shape.dtypes.full
    words, output, *blocks = jax.random.split(key, shape.num_layers + 2)
    xavier = jax.nn.initializers.xavier_uniform()

    def norm() -> PyTree:
        return {"scale": jnp.ones(size, full), "bias": jnp.zeros(size, full)}

    def dense(key: Array, num_inputs: int, num_units: int) -> PyTree:
        return {"kernel": xavier(key, (num_inputs, num_units), full), "bias": jnp.zeros(num_units, full)}

    def block(key: Array) -> PyTree:
        query, attended, hidden, added = jax.random.split(key, 4)
        # Each of the three is drawn by its own fan-in and fan-out; side by side, one product computes all of them.
        parts = [xavier(part_key, (size, size), full) for part_key in jax.random.split(query, 3)]
        return {
            "attention_norm": norm(),
            "query_key_value": {"kernel": jnp.concatenate(parts, axis=1)},
            "attention_output": {"kernel": xavier(attended, (size, size), full)},
            "hidden_norm": norm(),
            "hidden": dense(hidden, size, _HIDDEN_FACTOR * size),
            "hidden_output": dense(added, _HIDDEN_FACTOR * size, size),
        }

    params = {f"block_{number}": block(block_key) for number, block_key in enumerate(blocks, 1)}
    params["words"] = {"embedding": jax.random.normal(words, (shape.num_words, size), full) / size**0.5}
    params["output_norm"], params["output"] = norm(), dense(output, size, shape.num_outputs)
    return params, {}


def _outputs(shape: Shape, params: PyTree, tokens: Array, key: Array | None) -> Array:
    """Run the network; [B, L] -> [B, L, num_outputs]. No dropout where `key` is None."""
    full = shape.dtypes.full
    batch, length = tokens.shape
    hidden, masks = params["words"]["embedding"][tokens], None
    if key is not None:
        of_words, of_blocks = jax.random.split(key)
        hidden = apply_mask(hidden, keep(of_words, hidden.shape, rate=shape.dropout), rate=shape.dropout)
        masks = _masks(shape, batch, length, of_blocks)
    hidden = hidden + positions(length, shape.size).astype(full)[None]
    scores = jnp.where(tokens != PADDING, 0, _MASKED).astype(full)
    block = functools.partial(_block, shape, mask_scores=scores)
    hidden = through_blocks(shape, params, hidden.reshape(-1, shape.size), block, masks)
    outputs = dense(shape, params["output"], _normalized(params["output_norm"], hidden))
    return outputs.astype(full).reshape(batch, length, shape.num_outputs)


def through_blocks(shape: Shape, params: PyTree, hidden: Array, block: Callable[..., Array], masks: PyTree) -> Array:
    """Apply block(hidden, its params, its masks) for each block.

    Args:
      hidden: [B L, d], one row a word: XLA's product of three axes has a gradient of the kernel that is three times
        slower on a CPU.
    """
    blocks = [params[f"block_{number}"] for number in range(1, shape.num_layers + 1)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)
    is_unrolled = shape.num_layers <= linen.MOST_UNROLLED_BLOCKS
    return jax.lax.scan(lambda hidden, of: (block(hidden, *of), None), hidden, (stacked, masks), unroll=is_unrolled)[0]


def _block(shape: Shape, inputs: Array, params: PyTree, masks: PyTree, *, mask_scores: Array) -> Array:
    masks = masks or dict.fromkeys(("attention", "attended", "hidden", "added"))
    hidden = dense(shape, params["query_key_value"], _normalized(params["attention_norm"], inputs))

    def weigh(query: Array, key: Array) -> Array:
        scores = jnp.einsum("bhls,bhms->bhlm", query * (1 / query.shape[-1] ** 0.5), key).astype(shape.dtypes.full)
        return _dropped(shape, jax.nn.softmax(scores + mask_scores[:, None, None, :]), masks["attention"])

    hidden = attend(shape, hidden, len(mask_scores), weigh)
    inputs = inputs + _dropped(shape, dense(shape, params["attention_output"], hidden), masks["attended"])
    hidden = jax.nn.elu(dense(shape, params["hidden"], _normalized(params["hidden_norm"], inputs)))
    hidden = dense(shape, params["hidden_output"], _dropped(shape, hidden, masks["hidden"]))
    return inputs + _dropped(shape, hidden, masks["added"])


def attend(shape: Shape, hidden: Array, batch: int, weigh: Callable[[Array, Array], Array]) -> Array:
    """Apply attention, with weights [B, H, L, L] of queries and keys [B, H, L, s]; [B L, 3 d] -> [B L, d]."""
    # Heads go to the front: a product of many small matrices is fast only if they lie one after another.
    split = (batch, -1, 3, shape.num_heads, shape.size // shape.num_heads)
    query, key, value = hidden.reshape(split).transpose(2, 0, 3, 1, 4)
    averages = jnp.einsum("bhlm,bhms->bhls", weigh(query, key).astype(shape.dtypes.compute), value)
    return averages.transpose(0, 2, 1, 3).reshape(-1, shape.size)


def dense(shape: Shape, params: PyTree, inputs: Array) -> Array:
    """Multiply by a kernel, and add a bias if there is one."""
    compute = shape.dtypes.compute
    outputs = inputs.astype(compute) @ params["kernel"].astype(compute)
    return outputs + params["bias"].astype(compute)[None] if "bias" in params else outputs


def _normalized(params: PyTree, inputs: Array) -> Array:
    centred = inputs - jnp.mean(inputs, axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    normal = centred * jax.lax.rsqrt(variance + _NORM_EPSILON)
    return normal * params["scale"][None] + params["bias"][None]


def positions(length: int, size: int) -> np.ndarray:
    """Tabulate the sinusoids that encode the position of a word; [length, size]."""
    waves = _LONGEST_WAVE ** (-np.arange(0, size, 2) / size)
    angles = np.arange(length)[:, None] * waves
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, -1)[:, :size]


def _masks(shape: Shape, batch: int, length: int, key: Array) -> PyTree:
    """Draw the masks of all blocks at once: outside of the scan both passes of SAM can share them."""
    rows = (shape.num_layers, batch * length)
    sizes = {
        "attention": (shape.num_layers, batch, shape.num_heads, length, length),
        "attended": (*rows, shape.size),
        "hidden": (*rows, _HIDDEN_FACTOR * shape.size),
        "added": (*rows, shape.size),
    }
    keys = jax.random.split(key, len(sizes))
    drawn = zip(sizes.items(), keys, strict=True)
    return {name: keep(mask_key, size, rate=shape.dropout) for (name, size), mask_key in drawn}


def _dropped(shape: Shape, values: Array, mask: Array | None) -> Array:
    return values if mask is None else apply_mask(values, mask, rate=shape.dropout)
