"""Fully connected networks: LeNet-300-100 of the paper and every other depth and width."""

import functools

from flax import linen as nn

from flatwide.models import linen
from flatwide.types import Model, PyTree


class MLP(nn.Module):
    """Layers `hidden_0`, `hidden_1`, ..., `output`, with a ReLU after each hidden one."""

    num_neurons: tuple[int, ...]
    num_outputs: int
    half_precision: bool
    kernel_scale: float

    @nn.compact
    def __call__(self, inputs, *, train: bool):
        del train  # the same in both modes
        dtypes = linen.dtypes(half_precision=self.half_precision)
        draw = nn.initializers.variance_scaling(self.kernel_scale**2, "fan_in", "truncated_normal")
        dense = functools.partial(linen.dense, dtypes=dtypes, kernel_init=draw)
        hidden = inputs.reshape(inputs.shape[0], -1)
        for i, size in enumerate(self.num_neurons):
            hidden = linen.relu(self, dense(size, name=f"hidden_{i}")(hidden), layer=f"hidden_{i}")
        return dense(self.num_outputs, name="output")(hidden).astype(dtypes.full)


def mlp(
    example: PyTree,
    num_outputs: int,
    *,
    num_neurons: tuple[int, ...] = (300, 100),
    kernel_scale: float = 1.0,
    half_precision: bool = False,
) -> Model:
    """Build a multilayer perceptron on flattened inputs.

    Args:
      example: one array of any shape.
      num_neurons: sizes of the hidden layers from the input to the output; () is a linear model.
      kernel_scale: factor of the initial kernels.
      half_precision: multiply in bfloat16; parameters and outputs stay in float32.
    Returns: Model with LeCun-normal kernels times kernel_scale and zero biases; outputs [B, num_outputs].
    Raises: ValueError if a size is no integer >= 1.
    Source: paper, Table 3: [300p, 100p] for p = 0.25, 0.5, 1, 4, 10.
    """
    sizes = linen.check_sizes("num_neurons", num_neurons, at_least=0)
    linen.check_one_array("MLP", example)
    return linen.from_linen(MLP(sizes, num_outputs, half_precision, kernel_scale), example)
