"""Whether training, and SAM's perturbation, do the same at every width: the command `coordinate_check`."""

from flatwide.coordinate_check.slopes import Check, Quantity, Slope, run

__all__ = ["Check", "Quantity", "Slope", "run"]
