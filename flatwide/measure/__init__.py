"""Curvature, stability and shape of a loss around given parameters: functions and arrays in, numbers with errors out.

Nothing here knows a config, a model or a training loop. docs/measure.md shows each measurement on a model of your own.
"""

from flatwide.measure.density import SpectralDensity, spectral_density
from flatwide.measure.eigenvalues import Eigenpairs, top_eigenvalues
from flatwide.measure.operators import Operator, gauss_newton_operator, hessian_operator, operator
from flatwide.measure.trace import Estimate, frobenius_norm, trace

__all__ = [
    "Eigenpairs",
    "Estimate",
    "Operator",
    "SpectralDensity",
    "frobenius_norm",
    "gauss_newton_operator",
    "hessian_operator",
    "operator",
    "spectral_density",
    "top_eigenvalues",
    "trace",
]
