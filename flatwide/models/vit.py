"""Vision transformer: attention among the patches of an image, and a linear layer.

Layers are `patches`, `position`, `blocks/block_1/attention_norm`, `.../query`, `.../key`, `.../value`,
`.../attention_output`, `.../hidden_norm`, `.../hidden`, `.../hidden_output`, `output_norm` and `output`. The T patches
of an image are [B, T, hidden_size]; outside of attention they are rows, [B T, hidden_size], because XLA's product of
three axes has a gradient of the kernel that is several times slower on a CPU.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from flatwide.models import linen
from flatwide.types import Array, Model, PyTree

NUM_LAYERS = 6
_HEAD_SIZE = 32  # of the paper: heads = hidden_size / 32
_MLP_FACTOR = 2
_POSITION_DEVIATION = 0.02


class Positions(nn.Module):
    """Add a trained vector to each position of a sequence."""

    dtypes: linen.Dtypes

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        # The name keeps it from being pruned, as a table of words is.
        draw = nn.initializers.normal(_POSITION_DEVIATION)
        table = self.param("embedding", draw, inputs.shape[1:], self.dtypes.full)
        return inputs + table.astype(inputs.dtype)[None]


class Block(nn.Module):
    """Attention and two dense layers, each on normalized inputs with a residual connection."""

    length: int
    num_heads: int
    dropout: float
    dtypes: linen.Dtypes
    train: bool

    @nn.compact
    def __call__(self, inputs: Array, _: None) -> tuple[Array, None]:
        size, dense = inputs.shape[-1], functools.partial(linen.dense, dtypes=self.dtypes)

        def dropped(inputs: Array) -> Array:
            return nn.Dropout(self.dropout, deterministic=not self.train)(inputs)

        hidden = normalize(inputs, self.dtypes, name="attention_norm")
        query, key, value = (dense(size, name=name)(hidden) for name in ("query", "key", "value"))
        query, key, value = (rows.reshape(-1, self.length, size) for rows in (query, key, value))
        hidden = attend(query, key, value, num_heads=self.num_heads, dtypes=self.dtypes).reshape(-1, size)
        inputs = inputs + dropped(dense(size, name="attention_output")(hidden))
        hidden = normalize(inputs, self.dtypes, name="hidden_norm")
        hidden = dropped(nn.gelu(dense(_MLP_FACTOR * size, name="hidden")(hidden)))
        return inputs + dropped(dense(size, name="hidden_output")(hidden)), None


def stacked(num_layers: int, *, is_initializing: bool) -> Callable[..., nn.Module]:
    """Apply equal blocks in turn by one scan, with separate parameters: masks and norms are those of single layers.

    Up to `linen.MOST_UNROLLED_BLOCKS` the scan is unrolled: in a loop, XLA copies what each block keeps for its
    backward pass into arrays of all blocks, and fuses nothing across them.
    """
    names = [f"block_{number}" for number in range(1, num_layers + 1)]

    def stack(variables: PyTree) -> PyTree:
        blocks = [variables["params"][name] for name in names]
        return {"params": jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)}

    def unstack(variables: PyTree) -> PyTree:
        blocks = (jax.tree.map(lambda leaves, i=i: leaves[i], variables["params"]) for i in range(num_layers))
        return {"params": dict(zip(names, blocks, strict=True))}

    blocks = nn.scan(
        Block,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        length=num_layers,
        unroll=1 if is_initializing or num_layers > linen.MOST_UNROLLED_BLOCKS else num_layers,
    )
    return nn.map_variables(blocks, "params", stack, unstack, init=is_initializing)


class ViT(nn.Module):
    """A linear map of each patch, blocks, and a linear layer on the mean over the patches."""

    num_outputs: int
    hidden_size: int
    num_heads: int
    num_layers: int
    patch_size: int
    dropout: float
    half_precision: bool

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        dtypes = linen.dtypes(half_precision=self.half_precision)
        dense = functools.partial(linen.dense, dtypes=dtypes)
        patches = cut_patches(inputs, self.patch_size)
        batch, length, entries = patches.shape
        hidden = dense(self.hidden_size, name="patches")(patches.reshape(-1, entries))
        hidden = Positions(dtypes, name="position")(hidden.reshape(batch, length, -1))
        hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden).reshape(batch * length, -1)
        blocks = stacked(self.num_layers, is_initializing=self.is_initializing())
        hidden, _ = blocks(length, self.num_heads, self.dropout, dtypes, train, name="blocks")(hidden, None)
        hidden = normalize(hidden, dtypes, name="output_norm").astype(dtypes.full)
        features = hidden.reshape(batch, length, -1).mean(axis=1)
        return dense(self.num_outputs, name="output")(features).astype(dtypes.full)


def cut_patches(images: Array, size: int) -> Array:
    """Cut images [B, H, W, C] into squares: [B, H W / size^2, size^2 C], row by row, each flattened in C order."""
    batch, height, width, channels = images.shape
    rows, columns = height // size, width // size
    squares = images.reshape(batch, rows, size, columns, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(batch, rows * columns, size * size * channels)


def normalize(inputs: Array, dtypes: linen.Dtypes, *, name: str) -> Array:
    """Apply layer normalization, in full precision."""
    layer = nn.LayerNorm(epsilon=1e-6, dtype=dtypes.full, param_dtype=dtypes.full, use_fast_variance=False, name=name)
    return layer(inputs).astype(dtypes.compute)


def attend(query: Array, key: Array, value: Array, *, num_heads: int, dtypes: linen.Dtypes) -> Array:
    """Apply attention: for each head, average the values [B, T, D] with weights from queries and keys.

    Equation: o_t = sum_s softmax_s(q_t . k_s / sqrt(D / heads)) v_s, for each head's share of the D entries.
    """
    batch, length, size = query.shape

    def heads(array: Array) -> Array:
        return array.reshape(batch, length, num_heads, size // num_heads).transpose(0, 2, 1, 3)

    query = (query.astype(dtypes.full) * (1 / (size // num_heads) ** 0.5)).astype(dtypes.compute)
    scores = jnp.einsum("bhtd,bhsd->bhts", heads(query), heads(key)).astype(dtypes.full)
    # Normalized after the product with the values: T D entries are divided instead of T T, here and in the gradient.
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    totals = jnp.sum(weights, axis=-1, keepdims=True)
    sums = jnp.einsum("bhts,bhsd->bhtd", weights.astype(dtypes.compute), heads(value))
    averages = (sums / totals).astype(dtypes.compute)
    return averages.transpose(0, 2, 1, 3).reshape(batch, length, size)


def vit(
    example: PyTree,
    num_outputs: int,
    *,
    hidden_size: int = 128,
    num_layers: int | None = None,
    patch_size: int = 4,
    dropout: float | None = None,
    half_precision: bool = False,
) -> Model:
    """Build a vision transformer that learns its positions and averages over patches.

    Norms come before attention and dense layers (pre-norm): the scale of what each block adds then does not depend on
    the depth at initialization, so that plain SGD at a rate of 0.1 needs no warmup.

    Args:
      example: one image [H, W, C].
      hidden_size: entries d of each patch's vector; heads are d / 32, rounded down and at least 1, and the inner dense
        layer has 2 d units.
      num_layers: blocks; None is 6.
      patch_size: height and width of a patch, which must divide those of the image.
      dropout: fraction of what each block adds, of its inner units, and of the patches' vectors that is set to zero in
        training; None is 0.
      half_precision: multiply in bfloat16; parameters, norms, softmax and outputs stay in float32.
    Returns: Model with LeCun-normal kernels, zero biases and positions N(0, 0.02^2); outputs [B, num_outputs].
    Raises: ValueError if a size is no integer >= 1, an example is no image, the patches do not fill the image, or the
      heads do not divide hidden_size.
    Source: paper, Table 3 and Figure 5e: 6 layers, patches of 4, inner size 2 d, d / 32 heads; after Dosovitskiy et al.
      (2021). Pre-norm is theirs; positions, and the mean instead of a class token, are not stated in the paper, and its
      rounded counts fit both.
    """
    linen.check_one_array("ViT", example, num_axes=3)
    (leaf,) = jax.tree.leaves(example)
    size, patch = linen.check_size("hidden_size", hidden_size), linen.check_size("patch_size", patch_size)
    layers = NUM_LAYERS if num_layers is None else linen.check_size("num_layers", num_layers)
    height, width, _ = leaf.shape
    if height % patch or width % patch:
        raise ValueError(
            f"config.patch_size={patch} with images of {height} x {width}: expected a divisor of both sides, such as "
            f"{next(size for size in range(patch, 0, -1) if not (height % size or width % size))}."
        )
    num_heads, rate = linen.heads_of(size, head_size=_HEAD_SIZE), 0.0 if dropout is None else dropout
    return linen.from_linen(ViT(num_outputs, size, num_heads, layers, patch, rate, half_precision), example)
