"""Networks for PPO: a policy and a value from the screen of a game.

Layers are `conv_1`, ..., `hidden`, `policy` and `value`. Arrays are [B, H, W, C].
"""

import functools

import jax
from flax import linen as nn

from flatwide.models import linen
from flatwide.models.convolution import Conv
from flatwide.types import Array, Model, PyTree

# Convolutions as (factor of num_filters, kernel, stride), and the factor of num_filters of the layer of neurons.
_SCREEN = (((1, 8, 4), (2, 4, 2), (2, 3, 1)), 16)
_BOARD = (((1, 3, 1),), 8)
_SMALLEST_SCREEN = 36  # pixels that the three convolutions of a screen leave one of
_SMALLEST_BOARD = 3


class ActorCritic(nn.Module):
    """Convolutions without padding and a layer of neurons, each with a ReLU, then two linear heads."""

    convolutions: tuple[tuple[int, int, int], ...]
    hidden_factor: int
    num_outputs: int
    num_filters: int
    half_precision: bool

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> dict[str, Array]:
        del train  # the same in both modes
        dtypes, hidden = linen.dtypes(half_precision=self.half_precision), inputs
        dense = functools.partial(linen.dense, dtypes=dtypes)
        for number, (factor, kernel, stride) in enumerate(self.convolutions, start=1):
            layer = Conv(
                self.num_filters * factor,
                (kernel, kernel),
                strides=(stride, stride),
                padding="VALID",
                use_bias=True,
                dtype=dtypes.compute,
                param_dtype=dtypes.full,
                name=f"conv_{number}",
            )
            hidden = linen.relu(self, layer(hidden), layer=f"conv_{number}")
        hidden = hidden.reshape(hidden.shape[0], -1)
        size = self.num_filters * self.hidden_factor
        hidden = linen.relu(self, dense(size, name="hidden")(hidden), layer="hidden")
        logits, values = dense(self.num_outputs, name="policy")(hidden), dense(1, name="value")(hidden)[:, 0]
        return {"logits": logits.astype(dtypes.full), "values": values.astype(dtypes.full)}


def actor_critic(example: PyTree, num_outputs: int, *, num_filters: int = 32, half_precision: bool = False) -> Model:
    """Build a network with a policy and a value, for the screen of a game.

    Args:
      example: one screen [H, W, C]. From 36 x 36 on, such as Atari's 84 x 84 x 4, it is read by three convolutions of
        num_filters, twice and twice as many filters, with kernels 8, 4, 3 and strides 4, 2, 1, and 16 times as many
        neurons. A smaller one, from 3 x 3 on, such as MinAtar's 10 x 10 x 4, by one convolution with kernel 3 and 8
        times as many neurons: with 16 filters the network of the MinAtar paper.
      num_outputs: actions.
      half_precision: multiply in bfloat16; parameters and outputs stay in float32.
    Returns: Model with LeCun-normal kernels and zero biases, whose outputs are "logits" [B, num_outputs], unnormalized
      logarithms of the probability of each action, and "values" [B], estimates of the discounted return.
    Raises: ValueError if a size is no integer >= 1, or an example is no image, or too small a one.
    Source: the paper's table 3, whose sizes of 0.4 to 6.7 million fit these layers without padding (424,533 parameters
      with 16 filters and four actions); Mnih et al. (2015) for the screen, Young and Tian (2019) for the board.
    """
    linen.check_one_array("ActorCritic", example, num_axes=3)
    height, width, _ = jax.tree.leaves(example)[0].shape
    if min(height, width) < _SMALLEST_BOARD:
        raise ValueError(
            f"config.model='ActorCritic' reads screens of at least {_SMALLEST_BOARD} x {_SMALLEST_BOARD}; this data "
            f"set gives {height} x {width}: choose another model, such as MLP."
        )
    body = _SCREEN if min(height, width) >= _SMALLEST_SCREEN else _BOARD
    size = linen.check_size("num_filters", num_filters)
    return linen.from_linen(ActorCritic(*body, num_outputs, size, half_precision), example)
