"""Pruning at initialization: masks of the kernel entries that are trained; the others stay zero."""

from flatwide.sparsify.densities import LAYER_DENSITIES
from flatwide.sparsify.masks import (
    LayerCount,
    full_mask,
    layer_counts,
    make_mask,
    num_kept,
    num_nonzero_params,
    snip_gradient,
)
from flatwide.sparsify.pruners import PRUNERS, Pruner

__all__ = [
    "LAYER_DENSITIES",
    "PRUNERS",
    "LayerCount",
    "Pruner",
    "full_mask",
    "layer_counts",
    "make_mask",
    "num_kept",
    "num_nonzero_params",
    "snip_gradient",
]
