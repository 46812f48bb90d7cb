"""The loss around a network: along a random direction, and on the plane of two."""

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import measure, workloads
from flatwide.measurements.subject import Measured, OfWorkload, Subject
from flatwide.types import Array, Batch, PyTree

_MEANS = ("accuracy", "mean_squared_error")  # metrics that are means over examples


def landscape(
    subject: Subject,
    *,
    key: jax.Array,
    reach: float = 1.0,
    num_line_steps: int = 25,
    num_plane_steps: int = 10,
    batch_size: int = 1000,
) -> Measured:
    """Measure the loss and the metric along two random filter-normalized directions.

    Batch-norm averages are those of the network.

    Args:
      reach: extent to either side, in norms of the filters.
      num_line_steps, num_plane_steps: of the grids to either side of the network.
      batch_size: examples in memory at once.
    Returns: mean_rise and largest_rise, of the loss over the plane above that of the network, in units of loss. Arrays:
      direction_positions, direction_losses, direction_metrics along the first direction; plane_x, plane_y, and
      plane_losses, plane_metrics [y, x]. Metrics are included if they are means over examples.
    Cost: one forward pass per point.
    """
    directions = measure.random_directions(subject.params, key=key, mask=subject.mask)
    axes = [np.linspace(-reach, reach, 2 * num + 1) for num in (num_line_steps, num_plane_steps)]
    score = Score(subject.built.workload)
    options = {"batch_size": batch_size, "weigh": subject.weigh}

    def over(directions: tuple, axes: list[np.ndarray]) -> dict[str, np.ndarray]:
        space = measure.spanned_by(subject.params, directions, extra=subject.stats)
        return measure.surface(score, space, axes, subject.examples, **options)

    line, plane = over(directions[:1], axes[:1]), over(directions, [axes[1], axes[1]])
    arrays = {"direction_positions": axes[0], "plane_x": axes[1], "plane_y": axes[1]}
    arrays |= {f"direction_{name}": array for name, array in line.items()}
    arrays |= {f"plane_{name}": array.T for name, array in plane.items()}
    rises = plane["losses"].astype(np.float64) - plane["losses"][num_plane_steps, num_plane_steps]
    values = {"mean_rise": float(np.mean(rises)), "largest_rise": float(np.max(rises))}
    return Measured(values, arrays=arrays)


class Score(OfWorkload):
    """The mean loss of a prepared batch in evaluation mode, and its metric if that is a mean over examples."""

    def __call__(self, params: PyTree, batch: Batch, stats: PyTree) -> dict[str, Array]:
        """Compute the loss and metric of a batch."""
        scores, _ = workloads.score(self.workload, params, stats, batch, train=False, key=None)
        means = {"losses": workloads.mean_loss(scores.losses, scores.weights)}
        if self.workload.objective.metric_name in _MEANS:
            total = jnp.sum(scores.weights)
            means["metrics"] = jnp.sum(scores.predictions) / jnp.where(total > 0, total, 1)
        return means
