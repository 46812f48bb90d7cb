"""The paper's small regression tasks, made from formulas and fixed seeds: the same in every run, with no download."""

import numpy as np

from flatwide.data.npz import prepare
from flatwide.data.splits import Resident, dataset
from flatwide.types import Dataset

_SEED = 0  # not config.seed: the data are the same for every run
_STEPS_BETWEEN = 20  # of the test grid, from one training point to the next


def regression_1d() -> Dataset:
    """Make the twelve points of a function of one number.

    The function is known at the points only. The test split is 221 points of the straight lines that join them, from
    the first to the last: its loss tells how far a fit is from the simplest one, not how well it generalizes.

    Source: the paper's figure 2; x = (-5.5, -4.5, ..., 5.5) / 4 + 0.07 was read off its dots.
    """
    points = np.arange(-5.5, 6) / 4 + 0.07
    values = 0.345 + np.array([-2, 1.5, 0, 0, 2, 1, 0, -1, 0, 1, 2, -1])
    grid = np.interp(np.arange((len(points) - 1) * _STEPS_BETWEEN + 1) / _STEPS_BETWEEN, np.arange(12), points)
    return _dataset((points[:, None], values[:, None]), (grid[:, None], np.interp(grid, points, values)[:, None]))


def matrix_factorization() -> Dataset:
    """Make 1,000 training and 1,000 test examples of a badly conditioned linear map from 6 to 10 numbers.

    Equation: y = A x with x ~ N(0, I) and A_ij = s_i u_ij, u_ij uniform in [0, 1) and s = 1, 8/9, ..., 1/9, 1e-10. The
      rank is 6; a product of rank k < 6 cannot fit it.
    Source: the paper's figure 6c has the task, but tells neither A nor a test split. A is drawn as in Vaswani et al.
      (2019), Painless stochastic gradient, after Rahimi and Recht; the test examples are ours.
    """
    random = np.random.default_rng(_SEED)
    matrix = np.linspace(1, 1e-10, 10)[:, None] * random.uniform(size=(10, 6))
    train, test = (random.standard_normal((1_000, 6)) for _ in range(2))
    return _dataset((train, train @ matrix.T), (test, test @ matrix.T))


def two_layer_teacher() -> Dataset:
    """Make 1,000 training and 5,000 test examples of a smooth function on the unit sphere in four dimensions.

    Equation: y = (sin 3 x_1 + sin 3 x_2 + sin 3 x_3 - 2)^2 cos 7 x_4, with x Gaussian, divided by its norm.
    Source: Allen-Zhu et al. (2019), Learning and generalization in overparameterized neural networks, section 6; the
      paper's figure 22.
    """
    random = np.random.default_rng(_SEED)
    points = random.standard_normal((6_000, 4))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    values = (np.sin(3 * points[:, :3]).sum(axis=1) - 2) ** 2 * np.cos(7 * points[:, 3])
    return _dataset((points[:1_000], values[:1_000, None]), (points[1_000:], values[1_000:, None]))


def teacher_student(*, teacher_scale: float = 0.1) -> Dataset:
    """Make 20,400 training and 5,100 test examples of a random network of two layers, with noise.

    Args:
      teacher_scale: c >= 0; 0 leaves noise alone. The inputs and the noise are the same at every scale.
    Equation: y = c a . relu(W x) + e with x ~ N(0, I) in 100 dimensions, e ~ N(0, 1), and 200 hidden units of LeCun's
      weights W_ij ~ N(0, 1/100) and a_i ~ N(0, 1/200). Since a ReLU keeps factors, weights of other deviations are this
      with another c: both layers N(0, 1) is c = 141, both of variance 1 / (3 inputs) is c = 1/3.
    Source: the paper's workload 1 has sizes, noise and inputs. Its teacher's scale is not stated: the default is ours.
    """
    random = np.random.default_rng(_SEED)
    hidden, output = random.standard_normal((100, 200)) / 100**0.5, random.standard_normal((200, 1)) / 200**0.5
    points, noise = random.standard_normal((25_500, 100)), random.standard_normal((25_500, 1))
    values = teacher_scale * np.maximum(points @ hidden, 0) @ output + noise
    return _dataset((points[:20_400], values[:20_400]), (points[20_400:], values[20_400:]))


def _dataset(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> Dataset:
    # Rounded to 32 bits: the last of 64 depend on the machine's sine and matrix product, and with them the fingerprint.
    splits = [
        Resident({"inputs": inputs.astype(np.float32), "targets": targets.astype(np.float32)})
        for inputs, targets in (train, test)
    ]
    return dataset(*splits, prepare=prepare, num_outputs=train[1].shape[1])
