"""Curvature, stability and shape of a loss around given parameters: functions and arrays in, numbers with errors out.

This package is independent of configs, models and training loops. docs/measure.md shows each measurement on a model of
your own. The modules, in order of dependency:

    batching, inputs, operators
                             means over data; checks of arguments, and the `Problem` of a loss, its parameters and data
                             that compiled functions take; matrix-free operators
    jaxprs, host             an interpreter of functions; calls of Python on the host
    spectrum/
      lanczos, ends          Lanczos bases; the largest and smallest eigenvalue
      certificate, search    bounds on missed eigenvalues, with their proof; the search for leading eigenvalues
      eigenvalues, negative, trace, density
    stability/               uses spectrum/
      factored, moments      the Hessians of single examples, and their non-uniformity
      mean_square            exact growth
      edge_of_stability      the curvature above which full-batch steps are unstable; preconditioned Hessians
      stability_condition    the paper's condition, with matrices and by products
      curved_span, linear_dynamics
                             matrices on the span of the curvature; growth by simulation
      verdict                linear stability from all of these
    rate, smoothness, convergence
                             the observed linear rate, smoothness and PL constants, and the rate of the theory
    loss_rise                the rise of the loss nearby (sharpness)
    layerwise                the same for single layers: blocks of a matrix, traces, SAM's perturbation, sharpness
    robustness               noisy and rounded weights
    torch                    the loss of a PyTorch module as a function of params
    subspace, landscape      lines and planes, and the loss on them
"""

from flatwide.measure import torch as torch
from flatwide.measure.convergence import ConvergenceBound, convergence_bound
from flatwide.measure.inputs import Problem, example_problem, problem
from flatwide.measure.landscape import Barrier, barrier, surface
from flatwide.measure.layerwise import Layer, Layers, ascent_shares, block_traces, blocks, layers
from flatwide.measure.loss_rise import Sharpness, sharpness
from flatwide.measure.operators import Operator, hessian_operator, operator
from flatwide.measure.rate import LinearRate, linear_rate
from flatwide.measure.robustness import noisy_weights, rounded_weights
from flatwide.measure.smoothness import SmoothnessAndPL, largest_example_smoothness, smoothness_and_pl
from flatwide.measure.spectrum.density import SpectralDensity, spectral_density
from flatwide.measure.spectrum.eigenvalues import Eigenpairs, top_eigenvalues
from flatwide.measure.spectrum.negative import NegativeCurvature, negative_curvature
from flatwide.measure.spectrum.trace import (
    Diagonal,
    Estimate,
    diagonal,
    frobenius_norm,
    trace,
    trace_and_norm,
)
from flatwide.measure.stability.edge_of_stability import (
    edge_of_stability,
    effective_rho,
    preconditioned_edge,
    preconditioned_operator,
)
from flatwide.measure.stability.moments import Moments, hessian_moments
from flatwide.measure.stability.stability_condition import Condition, Consequence
from flatwide.measure.stability.verdict import Stability, linear_stability, stability_of_matrices
from flatwide.measure.subspace import (
    Subspace,
    line_through,
    plane_through,
    principal_subspace,
    random_directions,
    spanned_by,
)

__all__ = [
    "Barrier",
    "Condition",
    "Consequence",
    "ConvergenceBound",
    "Diagonal",
    "Eigenpairs",
    "Estimate",
    "Layer",
    "Layers",
    "LinearRate",
    "Moments",
    "NegativeCurvature",
    "Operator",
    "Problem",
    "Sharpness",
    "SmoothnessAndPL",
    "SpectralDensity",
    "Stability",
    "Subspace",
    "ascent_shares",
    "barrier",
    "block_traces",
    "blocks",
    "convergence_bound",
    "diagonal",
    "edge_of_stability",
    "effective_rho",
    "example_problem",
    "frobenius_norm",
    "hessian_moments",
    "hessian_operator",
    "largest_example_smoothness",
    "layers",
    "line_through",
    "linear_rate",
    "linear_stability",
    "negative_curvature",
    "noisy_weights",
    "operator",
    "plane_through",
    "preconditioned_edge",
    "preconditioned_operator",
    "principal_subspace",
    "problem",
    "random_directions",
    "rounded_weights",
    "sharpness",
    "smoothness_and_pl",
    "spanned_by",
    "spectral_density",
    "stability_of_matrices",
    "surface",
    "top_eigenvalues",
    "trace",
    "trace_and_norm",
]
