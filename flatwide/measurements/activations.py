"""The share of hidden ReLUs whose state on the examples training left unchanged."""

import math

import jax
import numpy as np

from flatwide.measurements.errors import NotApplicableError
from flatwide.measurements.subject import Measured, Subject
from flatwide.models import activations as models_activations

_stability = jax.jit(models_activations.stability, static_argnums=0)


def activations(subject: Subject, *, key: jax.Array, batch_size: int = 100) -> Measured:
    """Measure the share of hidden ReLUs that are on, or off, both at the initial weights and now.

    Args:
      batch_size: examples in memory at once.
    Returns: stability, of all units, and stability_<layer>, of each layer's; means over the examples, with errors.
    Raises: NotApplicableError for a model that does not expose its preactivations.
    Cost: two forward passes.
    """
    del key  # nothing is random
    if subject.built.model.preactivations is None:
        raise NotApplicableError(
            f"config.model={subject.built.config['model']!r}: does not expose its hidden ReLUs; expected an MLP, VGG11 "
            "or a network of one hidden layer."
        )
    before, after = ((network.params, network.stats) for network in (subject.initial, subject))
    model = subject.built.model
    parts = [jax.device_get(_stability(model, before, after, batch["inputs"])) for batch in subject.batches(batch_size)]
    shares = {"stability": np.concatenate([part.units for part in parts])}
    shares |= {f"stability_{name}": np.concatenate([part.layers[name] for part in parts]) for name in parts[0].layers}
    values = {name: float(np.mean(unit_shares, dtype=np.float64)) for name, unit_shares in shares.items()}
    return Measured(
        values, {name: _standard_error(unit_shares) for name, unit_shares in shares.items() if len(unit_shares) > 1}
    )


def _standard_error(shares: np.ndarray) -> float:
    return float(np.std(shares, ddof=1, dtype=np.float64)) / math.sqrt(len(shares))
