"""A decoder Transformer, which predicts each token of a text from those before it.

Like the tagging Transformer, it is one scan over the stacked weights of its blocks, unrolled where blocks are few.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from flatwide.models import linen
from flatwide.models.transformer import Shape, attend, dense, through_blocks
from flatwide.types import Array, Model, PyTree

NUM_LAYERS = 4
_HEAD_SIZE = 32
_LONGEST_WAVE = 10_000.0
_NORM_EPSILON = 1e-6
_MASKED = -1e30  # its exponential is exactly 0
_INITIAL_OUTPUT = 0.1  # deviation of the initial outputs, so that the first loss is near that of equal probabilities


def gpt(
    example: PyTree,
    num_outputs: int,
    *,
    hidden_size: int = 128,
    num_layers: int | None = None,
    num_heads: int | None = None,
    mlp_ratio: int = 4,
    tie_embeddings: bool = False,
    half_precision: bool = False,
) -> Model:
    """Build a decoder Transformer with outputs for each token: RMS norms first, rotary positions, no biases.

    Layers are `words`, `block_1/attention_norm`, `block_1/query_key_value`, `.../attention_output`, `.../hidden_norm`,
    `.../hidden`, `.../hidden_output`, `output_norm`, `output`.

    Args:
      example: one row of tokens, `types.Categories`.
      hidden_size: entries d of each token's vector.
      num_layers: blocks; None is 4.
      num_heads: None is d / 32, rounded down and at least 1, so that a head does not grow with the width.
      mlp_ratio: units of the inner dense layer, in multiples of d.
      tie_embeddings: the outputs are products with the tokens' vectors, instead of a kernel of their own.
      half_precision: multiply in bfloat16; parameters, norms, softmax and outputs stay in float32.
    Returns: Model with LeCun normal kernels (those that add to the tokens' vectors divided by (2 layers)^(1/2)),
      vectors N(0, 1/d) and an output kernel N(0, 1/(100 d)); outputs [B, L, num_outputs].
    Raises: ValueError if a size is no integer >= 1, the example is no row of tokens, heads do not divide the vectors
      into even numbers of entries, or tied outputs are not one for each token.
    Equation: x = E[token]; in each block x = x + W_o attention(R q, R k, v), x = x + W_2 gelu(W_1 norm(x)), with q, k
      and v from norm(x), and R turning entries (i, i + s/2) of a head of s by the angle l 10000^(-2i/s) at place l;
      norm(x) = scale x / (mean(x^2) + 1e-6)^(1/2); outputs = W norm(x). Place l attends to places 1 to l.
    Source: Radford et al. (2019) for the blocks and the factor of added kernels; Su et al. (2021), arXiv 2104.09864,
      for rotary positions; Zhang and Sennrich (2019), arXiv 1910.07467, for the norm.
    """
    num_words = linen.check_words("GPT", example)
    size = linen.check_size("hidden_size", hidden_size)
    layers = NUM_LAYERS if num_layers is None else linen.check_size("num_layers", num_layers)
    heads = max(1, size // _HEAD_SIZE) if num_heads is None else linen.check_size("num_heads", num_heads)
    if size % (2 * heads):
        raise ValueError(
            f"config.hidden_size={size}: expected a multiple of {2 * heads}, so that each of its {heads} heads has an "
            f"even number of entries, such as {2 * heads * max(1, size // (2 * heads))}."
        )
    if tie_embeddings and num_outputs != num_words:
        raise ValueError(
            f"config.tie_embeddings=True with {num_outputs} outputs and {num_words} tokens: expected as many; set "
            "config.tie_embeddings=False."
        )
    shape = Shape(
        num_words=num_words,
        num_outputs=num_outputs,
        size=size,
        num_heads=heads,
        num_layers=layers,
        mlp_ratio=linen.check_size("mlp_ratio", mlp_ratio),
        tie_embeddings=tie_embeddings,
        half_precision=half_precision,
    )

    def apply(params: PyTree, stats: PyTree, inputs: PyTree, *, train: bool, key: Array | None = None):
        del train, key  # nothing is random
        return _outputs(shape, params, inputs), stats

    return Model(functools.partial(_init, shape), apply)


def _init(shape: Shape, key: Array) -> tuple[PyTree, PyTree]:
    size, full = shape.size, shape.dtypes.full
    words, output, *blocks = jax.random.split(key, shape.num_layers + 2)
    added = (2 * shape.num_layers) ** -0.5

    def norm() -> PyTree:
        return {"scale": jnp.ones(size, full)}

    def normal(key: Array, num_inputs: int, num_outputs: int, factor: float = 1.0) -> PyTree:
        return {"kernel": factor * num_inputs**-0.5 * jax.random.normal(key, (num_inputs, num_outputs), full)}

    def block(key: Array) -> PyTree:
        query, attended, hidden, hidden_output = jax.random.split(key, 4)
        inner = shape.mlp_ratio * size
        return {
            "attention_norm": norm(),
            "query_key_value": normal(query, size, 3 * size),
            "attention_output": normal(attended, size, size, added),
            "hidden_norm": norm(),
            "hidden": normal(hidden, size, inner),
            "hidden_output": normal(hidden_output, inner, size, added),
        }

    params = {f"block_{number}": block(block_key) for number, block_key in enumerate(blocks, 1)}
    params["words"] = {"embedding": jax.random.normal(words, (shape.num_words, size), full) / size**0.5}
    params["output_norm"] = norm()
    if not shape.tie_embeddings:
        params["output"] = normal(output, size, shape.num_outputs, _INITIAL_OUTPUT)
    return params, {}


def _outputs(shape: Shape, params: PyTree, tokens: Array) -> Array:
    """Run the network; [B, L] -> [B, L, num_outputs]."""
    batch, length = tokens.shape
    hidden = params["words"]["embedding"][tokens].reshape(-1, shape.size)

    def block(hidden: Array, params: PyTree, _: None) -> Array:
        between = dense(shape, params["query_key_value"], _normalized(params["attention_norm"], hidden))
        hidden = hidden + dense(shape, params["attention_output"], _attended(shape, between, batch))
        between = dense(shape, params["hidden"], _normalized(params["hidden_norm"], hidden))
        return hidden + dense(shape, params["hidden_output"], jax.nn.gelu(between))

    hidden = _normalized(params["output_norm"], through_blocks(shape, params, hidden, block, None))
    output = {"kernel": params["words"]["embedding"].T} if shape.tie_embeddings else params["output"]
    return dense(shape, output, hidden).astype(shape.dtypes.full).reshape(batch, length, shape.num_outputs)


def _attended(shape: Shape, hidden: Array, batch: int) -> Array:
    """Apply attention to the places before; [B L, 3 d] -> [B L, d]."""
    full, compute = shape.dtypes.full, shape.dtypes.compute

    def weigh(query: Array, key: Array) -> Array:
        length, head_size = query.shape[-2:]
        query, key = (_turned(part.astype(full)) for part in (query, key))
        products = jnp.einsum("bhls,bhms->bhlm", (query * head_size**-0.5).astype(compute), key.astype(compute))
        return jax.nn.softmax(jnp.where(np.tri(length, dtype=bool), products.astype(full), _MASKED))

    return attend(shape, hidden, batch, weigh)


def _turned(vectors: Array) -> Array:
    """Turn the vectors [B, H, L, s] by the angles of their positions."""
    length, size = vectors.shape[-2:]
    angles = np.arange(length)[:, None] * _LONGEST_WAVE ** (-np.arange(0, size, 2) / size)
    cos, sin = (jnp.asarray(of(angles), vectors.dtype)[None, None] for of in (np.cos, np.sin))
    first, second = jnp.split(vectors, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _normalized(params: PyTree, inputs: Array) -> Array:
    inputs = inputs.astype(params["scale"].dtype)
    return inputs * jax.lax.rsqrt(jnp.mean(inputs**2, axis=-1, keepdims=True) + _NORM_EPSILON) * params["scale"][None]
