"""The text classifier of Flax's SST-2 example: an LSTM in both directions, pooled by attention."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from flatwide.models import dropout as masks
from flatwide.models import linen
from flatwide.types import Array, Model, PyTree

DROPOUT = 0.5
WORD_DROPOUT = 0.1
_UNKNOWN = 1  # the token that a dropped word becomes
_NUM_GATES = 4  # input, forget, cell, output


class LSTM(nn.Module):
    """Layers `words`, `forward`, `backward`, `keys`, `energy`, `hidden`, `output`."""

    num_words: int
    hidden_size: int
    num_outputs: int
    dropout: float
    half_precision: bool

    @nn.compact
    def __call__(self, inputs, *, train: bool):
        dtypes = linen.dtypes(half_precision=self.half_precision)
        dense = functools.partial(linen.dense, dtypes=dtypes)
        rate = self.dropout if train else 0.0

        def drop(values: Array) -> Array:
            return values if rate == 0 else _dropped(values, self.make_rng("dropout"), rate)

        tokens = inputs.T  # time first: a step of the recurrence reads one block of memory
        is_word = tokens != 0
        if rate > 0:
            tokens = drop_words(tokens, self.make_rng("dropout"))
        table = nn.Embed(
            self.num_words,
            embedding_size(self.hidden_size),
            param_dtype=dtypes.full,
            embedding_init=nn.initializers.normal(0.1),
            name="words",
        )
        embedded = drop(table(tokens))
        directions = [_Direction(self.hidden_size, dtypes, name=name) for name in ("forward", "backward")]
        encoded = drop(_encode(*(direction(embedded, is_word) for direction in directions)))
        keys = dense(self.hidden_size, name="keys", use_bias=False)
        scores = dense(1, name="energy", use_bias=False)(jnp.tanh(keys(_rows(encoded))))
        attention = jax.nn.softmax(scores.reshape(is_word.shape).astype(dtypes.full), axis=0, where=is_word)
        context = drop(jnp.einsum("lb,lbh->bh", attention, encoded)[None])[0]
        hidden = drop(jnp.tanh(dense(self.hidden_size, name="hidden")(context))[None])[0]
        return dense(self.num_outputs, name="output", use_bias=False)(hidden).astype(dtypes.full)


def drop_words(tokens: Array, key: Array) -> Array:
    """Replace a tenth of the words [L, B] by the unknown word; padding stays."""
    is_kept = _dropped(jnp.ones((*tokens.shape, 1), jnp.float32), key, WORD_DROPOUT)[..., 0] > 0
    return jnp.where(is_kept | (tokens == 0), tokens, _UNKNOWN)


def _dropped(values: Array, key: Array, rate: float) -> Array:
    """Drop entries of [L, B, D] by where they are in their text, so that padding does not change which."""
    length, batch = values.shape[:2]
    item, example = jnp.divmod(jnp.arange(length * batch), batch)
    rows = masks.dropout(_rows(values), rate=rate, key=key, example=example, item=item)
    return rows.reshape(values.shape)


def _rows(values: Array) -> Array:
    """Put words [L, B, D] in rows: XLA's product of three axes has a slower gradient of the kernel on a CPU."""
    return values.reshape(-1, values.shape[-1])


class _Direction(nn.Module):
    """The weights of one direction: `input` of the words, `kernel` of the state; the four gates stand side by side."""

    hidden_size: int
    dtypes: linen.Dtypes

    @nn.compact
    def __call__(self, embedded: Array, is_word: Array) -> tuple[Array, Array]:
        """Return the gates' inputs from the words [L, B, 4H], 0 at padding, and the kernel [H, 4H] of the state."""
        size, full = _NUM_GATES * self.hidden_size, self.dtypes.full
        from_words = linen.dense(size, self.dtypes, name="input")(_rows(embedded)).reshape(*is_word.shape, size)
        state_kernel = self.param("kernel", _orthogonal_gates, (self.hidden_size, size), full)
        return jnp.where(is_word[..., None], from_words, 0), state_kernel.astype(self.dtypes.compute)


def _orthogonal_gates(key: Array, shape: tuple[int, int], dtype) -> Array:
    """Draw an orthogonal matrix for each gate."""
    keys, square = jax.random.split(key, _NUM_GATES), (shape[0], shape[0])
    return jnp.concatenate([nn.initializers.orthogonal()(k, square, dtype) for k in keys], axis=1)


def _encode(forward: tuple[Array, Array], backward: tuple[Array, Array]) -> Array:
    """Run both directions in one loop over words.

    Backwards, the padding behind a text's last word comes first. There the gates' inputs are 0 and the state stays
    exactly zero, since tanh(0) enters the cell. So padding changes no number.

    Returns: the states of both directions, [L, B, 2H].
    """
    gates = jnp.stack([forward[0], backward[0][::-1]], axis=1)
    kernels = jnp.stack([forward[1], backward[1]])

    def step(carry: tuple[Array, Array], from_words: Array) -> tuple[tuple[Array, Array], Array]:
        state, memory = carry
        from_state = jnp.einsum("dbh,dhg->dbg", state.astype(kernels.dtype), kernels).astype(memory.dtype)
        enter, keep, new, leave = jnp.split(from_words + from_state, _NUM_GATES, axis=-1)
        memory = jax.nn.sigmoid(keep) * memory + jax.nn.sigmoid(enter) * jnp.tanh(new)
        state = jax.nn.sigmoid(leave) * jnp.tanh(memory)
        return (state, memory), state

    full = jax.dtypes.canonicalize_dtype(float)
    start = jnp.zeros((2, gates.shape[2], kernels.shape[1]), full)
    _, states = jax.lax.scan(step, (start, start), gates.astype(full))
    return jnp.concatenate([states[:, 0], states[::-1, 1]], axis=-1)


def embedding_size(hidden_size: int) -> int:
    """Return the size of an embedded word: in proportion to the 300 for 256 hidden units of Flax's example."""
    return max(1, 300 * hidden_size // 256)


def lstm(
    example: PyTree,
    num_outputs: int,
    *,
    hidden_size: int = 128,
    dropout: float | None = None,
    half_precision: bool = False,
) -> Model:
    """Build a text classifier: embedded words, an LSTM in both directions, attention over its states, two layers.

    Args:
      example: one text of L words, `types.Categories`; token 0 is padding and 1 an unknown word.
      hidden_size: H, the units of each direction, of the attention and of the layer before the outputs.
      dropout: the share that is dropped, in training, of embedded words, states, pooled states and hidden units; then
        a tenth of the words become unknown too. None is 0.5; 0 drops neither.
      half_precision: multiply in bfloat16; parameters, the state of the LSTM and outputs stay in float32.
    Returns: Model; outputs [B, num_outputs], which padding changes by rounding at most. Embeddings are N(0, 0.1^2),
      kernels LeCun normal, those of the state orthogonal for each gate, biases 0.
    Raises: ValueError for inputs that are not texts.
    Equation: f, i, o = sigmoid, g = tanh of W x_t + U h_(t-1) + b; c_t = f c_(t-1) + i g; h_t = o tanh(c_t);
      a = softmax over words of v tanh(K h_t); outputs = W_2 tanh(W_1 sum_t a_t h_t + b_1).
      V E + 8 H (E + H + 1) + 4 H^2 + 2 H + H num_outputs parameters, with V words and E = floor(300 H / 256).
    Source: Flax's SST-2 example, which has one output for its two classes and a sigmoid in its loss; paper, table 3.
    """
    size = linen.check_size("hidden_size", hidden_size)
    num_words = linen.check_words("LSTM", example)
    rate = DROPOUT if dropout is None else dropout
    return linen.from_linen(LSTM(num_words, size, num_outputs, rate, half_precision), example)
