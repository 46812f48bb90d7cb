"""Coordinate checks: whether training and SAM's perturbation behave the same at every width."""

from flatwide.coordinate_check.slopes import Check, Quantity, Slope, run

__all__ = ["Check", "Quantity", "Slope", "run"]
