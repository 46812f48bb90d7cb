"""Counts are exact integers, and ERK's capping is solved exactly."""

import math
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from flatwide.sparsify.densities import Pool, erk_counts, kept_of, pools

SHAPES = st.lists(st.lists(st.integers(1, 12), min_size=2, max_size=4).map(tuple), min_size=1, max_size=6)
SPARSITIES = st.integers(0, 999).map(lambda thousandths: thousandths / 1000)


@given(total=st.integers(0, 10**9), thousandths=st.integers(0, 999))
def test_count_is_the_rounded_decimal_number(total, thousandths):
    exact = Decimal(1000 - thousandths) * total / 1000
    assert kept_of(total, sparsity=thousandths / 1000) == int(exact.quantize(Decimal(1), ROUND_HALF_EVEN))


@pytest.mark.parametrize(
    ("total", "sparsity", "expected"),
    [
        (15, 0.9, 2),  # 1.5; in floating point (1 - 0.9) * 15 is 1.4999999999999996
        (45, 0.9, 4),  # 4.5 goes to the even neighbour
        (5, 0.5, 2),
        (7, 0.5, 4),
        (266_200, 0.9, 26_620),
        (266_200, 0.999, 266),
        (1, 0.999, 0),
        (1, 0.0, 1),
        (3, 1e-9, 3),
    ],
)
def test_count_by_hand(total, sparsity, expected):
    assert kept_of(total, sparsity=sparsity) == expected


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, math.nan])
def test_sparsity_out_of_range_is_an_error(sparsity):
    with pytest.raises(ValueError, match=rf"config.sparsity={sparsity}: expected a number in \[0, 1\)"):
        kept_of(10, sparsity=sparsity)


def test_uniform_rounds_for_each_kernel_and_global_once():
    shapes = [(3, 5), (1, 5), (9, 5)]  # 15, 5 and 45 weights, 65 in all
    assert pools(shapes, sparsity=0.9, layer_density="uniform") == [Pool((0,), 2), Pool((1,), 0), Pool((2,), 4)]
    assert pools(shapes, sparsity=0.9, layer_density="global") == [Pool((0, 1, 2), 6)]  # 6.5
    assert sum(pool.num_kept for pool in pools(shapes, sparsity=0.9, layer_density="erk")) == 6


def test_unknown_density_lists_the_known_ones():
    with pytest.raises(ValueError) as caught:
        pools([(2, 2)], sparsity=0.5, layer_density="ekr")
    assert str(caught.value) == (
        "config.layer_density='ekr' is not known. Did you mean 'erk'? Known: erk, global, uniform."
    )


def test_erk_by_hand():
    """Sizes 6, 100, 100 and sums 5, 20, 29: c = 80/54 overfills the first; then c = 74/49 gives 30.2 and 43.8."""
    assert erk_counts([(2, 3), (10, 10), (4, 25)], total=80) == [6, 30, 44]


def test_erk_fills_kernels_one_after_another():
    """Sizes 6, 16, 400 and sums 5, 8, 40: c = 104/53 overfills the first only, and then c = 98/48 the second too."""
    assert erk_counts([(20, 20), (4, 4), (2, 3)], total=104) == [82, 16, 6]


def test_erk_gives_an_indivisible_remainder_to_the_earlier_kernel():
    assert erk_counts([(3, 3), (3, 3), (3, 3)], total=11) == [4, 4, 3]


def test_erk_counts_filters_by_all_axes():
    """Two kernels of 36 weights, whose axes sum to 3 + 3 + 2 + 2 = 10 and 6 + 6 = 12: shares of 10/22 and 12/22."""
    assert erk_counts([(3, 3, 2, 2), (6, 6)], total=22) == [10, 12]


@given(shapes=SHAPES, part=st.floats(0, 1))
def test_erk_agrees_with_a_numerical_solution(shapes, part):
    """All kernels that are not full share one scale c, found here as the root of sum(min(n_l, c s_l)) = total."""
    sizes, sums = [math.prod(shape) for shape in shapes], [sum(shape) for shape in shapes]
    total = round(part * sum(sizes))
    counts = erk_counts(shapes, total=total)
    assert sum(counts) == total
    assert all(0 <= count <= size for count, size in zip(counts, sizes, strict=True))

    def shares(scale):
        return [min(n, scale * s) for n, s in zip(sizes, sums, strict=True)]

    scale = brentq(lambda scale: sum(shares(scale)) - total, 0, max(sizes) + 1) if total < sum(sizes) else max(sizes)
    for count, share in zip(counts, shares(scale), strict=True):
        assert abs(count - share) < 1 + 1e-6


@given(shapes=SHAPES, sparsity=SPARSITIES)
def test_pools_hold_every_kernel_once_and_the_whole_total(shapes, sparsity):
    sizes = [math.prod(shape) for shape in shapes]
    for density in ("uniform", "erk", "global"):
        divided = pools(shapes, sparsity=sparsity, layer_density=density)
        assert sorted(i for pool in divided for i in pool.kernels) == list(range(len(shapes)))
        total = sum(pool.num_kept for pool in divided)
        if density == "uniform":
            assert total == sum(kept_of(size, sparsity=sparsity) for size in sizes)
        else:
            assert total == kept_of(sum(sizes), sparsity=sparsity)


@pytest.mark.parametrize("density", ["uniform", "erk", "global"])
def test_a_model_without_kernels_keeps_everything_it_has(density):
    assert sum(pool.num_kept for pool in pools([], sparsity=0.5, layer_density=density)) == 0
