import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import measure
from flatwide.measure.spectrum import lanczos

RANKS = {"magnitude": np.abs, "largest": np.positive, "smallest": np.negative}
KEY = jax.random.key(3)

# All of the same size, so that they share their compiled programs.
SPECTRA = {
    "distinct": np.linspace(0, 1, 60) ** 3 * 5,
    "repeated": np.r_[[5.0, 5, 5, 4, 4], np.linspace(0, 1, 55)],
    "negative leads": np.r_[[-7.0, -6, 3, 2], np.linspace(-0.1, 1, 56)],
    "one value": np.full(60, 3.0),
    "rank 2": np.r_[[2.0, 1], np.zeros(58)],
    "zero": np.zeros(60),
    "cluster": np.r_[5 - 1e-3 * np.arange(8), np.linspace(0, 1, 52)],
    "repeated at the edge of the wanted": np.r_[[5.0, 4, 1.01, 1.01], np.linspace(0, 1, 56)],
    "plus and minus": np.r_[[3.0, -3, 2, -2], np.linspace(-1, 1, 56)],
}


def wanted(values, k, which):
    """Return the k most extreme of known eigenvalues in their order."""
    return values[np.argsort(-RANKS[which](values), kind="stable")][:k]


@pytest.mark.parametrize("which", RANKS)
@pytest.mark.parametrize("name", SPECTRA)
def test_every_eigenvalue_is_found_as_often_as_it_repeats(name, which, of_spectrum, float64):
    values = SPECTRA[name]
    pairs = measure.top_eigenvalues(of_spectrum(values), 5, key=KEY, which=which, tolerance=1e-8)
    expected = wanted(values, 5, which)
    assert pairs.is_converged.all()
    # Two that are equal in magnitude may come in either order.
    assert_allclose(RANKS[which](pairs.values), RANKS[which](expected), atol=1e-9)
    left = list(values)
    for value in pairs.values:
        left.remove(next(candidate for candidate in left if abs(candidate - value) <= 1e-9))
    assert_allclose(pairs.vectors @ pairs.vectors.T, np.eye(5), atol=1e-7)


def product(vector, matrix):
    return matrix @ vector


def test_network_agrees_with_its_dense_hessian(mlp):
    mask = jax.tree.map(lambda leaf: np.random.default_rng(0).random(leaf.shape) < 0.6, mlp.params)
    operator = measure.hessian_operator(mlp.problem(mask=mask))
    kept = np.asarray(ravel_pytree(mask)[0])
    masked = jax.tree.map(lambda leaf, keep: leaf * keep, mlp.params, mask)
    true, vectors = np.linalg.eigh(mlp._replace(params=masked).hessian()[kept][:, kept])
    pairs = measure.top_eigenvalues(operator, 5, key=KEY, tolerance=1e-6)
    assert_allclose(pairs.values, wanted(true, 5, "magnitude"), rtol=1e-5)
    leading = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], pairs.vectors))[0]
    expected = vectors[:, np.argmax(np.abs(true))]
    assert abs(leading[kept] @ expected) > 1 - 1e-6
    assert_array_equal(leading[~kept], 0)
    assert_allclose([np.linalg.norm(row) for row in rows(pairs.vectors)], 1, rtol=1e-12)


def rows(vectors):
    return jax.vmap(lambda tree: ravel_pytree(tree)[0])(vectors)


def test_copies_that_turn_among_each_other_do_not_stop_the_search(of_spectrum):
    values = np.r_[[1.05] * 5, np.linspace(-1, 1, 55)]
    operator = of_spectrum(values, np.float32)
    for seed in (3, 9):  # regression: these stagnated with two or three of the five, up to the last product
        pairs = measure.top_eigenvalues(operator, 5, key=jax.random.key(seed))
        assert pairs.num_products < 300
        assert pairs.is_complete
        assert pairs.is_converged.all()
        assert_allclose(pairs.values, [1.05] * 5, rtol=1e-4)


@pytest.mark.parametrize("size", [1e-25, 1e-17, 1e20])
def test_single_precision_at_any_size(size, of_spectrum):
    values = np.r_[[5.0, 4, 3], np.linspace(-0.5, 0.5, 57)]
    pairs = measure.top_eigenvalues(of_spectrum(size * values, np.float32), 3, key=KEY)
    assert pairs.num_products < 40
    assert pairs.is_converged.all()
    assert np.all(pairs.residuals > 0)
    assert_allclose(pairs.values / size, [5, 4, 3], rtol=1e-5)


def test_residuals_are_those_of_the_vectors_returned(of_spectrum, float64):
    operator = of_spectrum(SPECTRA["distinct"])
    pairs = measure.top_eigenvalues(operator, 3, key=KEY, tolerance=1e-3)
    (matrix,) = operator.arrays
    expected = [np.linalg.norm(matrix @ v - value * v) for value, v in zip(pairs.values, pairs.vectors, strict=True)]
    assert_allclose(pairs.residuals, expected, rtol=1e-6)
    assert np.all(pairs.residuals <= 1e-3 * 5)
    assert np.all(pairs.residuals > 1e-12)


def test_all_eigenvalues_of_a_small_matrix(of_spectrum, float64):
    values = np.array([3.0, 1, 1, 0, 0, -2, -2])
    pairs = measure.top_eigenvalues(of_spectrum(values), 7, key=KEY, which="largest")
    assert_allclose(pairs.values, values, atol=1e-13)
    single = measure.top_eigenvalues(of_spectrum([-2.0]), 1, key=KEY)
    assert_allclose(single.values, [-2], rtol=1e-14)


def test_products_are_counted(of_spectrum, float64, monkeypatch):
    multiply, counted = lanczos._multiply_flat, []

    def counting(*arguments):
        counted.append(1)
        return multiply(*arguments)

    monkeypatch.setattr(lanczos, "_multiply_flat", counting)
    operator = of_spectrum(SPECTRA["repeated"])
    operator = measure.operator(product, operator.params, *operator.arrays, cost=2.5)
    pairs = measure.top_eigenvalues(operator, 3, key=KEY)
    assert pairs.num_products == len(counted) > 3
    assert pairs.cost == 2.5 * len(counted)


def test_a_start_near_the_answer_saves_products(of_spectrum, float64):
    values = np.linspace(0, 1, 60) ** 2
    operator = of_spectrum(values)
    first = measure.top_eigenvalues(operator, 1, key=KEY, tolerance=1e-6)
    again = measure.top_eigenvalues(operator, 1, key=KEY, tolerance=1e-6, start=first.vectors[0], rule_out="nothing")
    assert again.num_products <= 3 < first.num_products
    assert_allclose(again.values, [1], rtol=1e-8)
    assert np.isnan(again.hidden_gap)
    assert not again.is_complete


def test_a_start_without_the_leading_direction_rules_nothing_out_by_itself(of_spectrum, float64):
    operator = of_spectrum(np.r_[3.0, 2.0, np.linspace(0, 1, 58)])
    vectors = measure.top_eigenvalues(operator, 2, key=KEY, tolerance=1e-12).vectors
    trapped = measure.top_eigenvalues(operator, 1, key=KEY, start=vectors[1], rule_out="nothing")
    assert_allclose(trapped.values, [2], rtol=1e-6)
    assert not trapped.is_complete
    pairs = measure.top_eigenvalues(operator, 1, key=KEY, start=vectors[1])
    assert_allclose(pairs.values, [3], rtol=1e-6)
    assert pairs.is_complete
    assert pairs.num_products < 30


def test_running_out_of_products_is_reported(of_spectrum, float64):
    pairs = measure.top_eigenvalues(of_spectrum(np.linspace(0, 1, 60)), 3, key=KEY, tolerance=1e-10, max_products=10)
    assert pairs.num_products <= 10
    assert not pairs.is_converged.any()
    assert np.all(pairs.residuals > 1e-10)
    assert not pairs.is_complete


def test_running_out_of_products_before_the_copies_are_found_is_reported(of_spectrum, float64):
    # 5, 3 and 1 converge first, and their residuals do not reveal the other two.
    operator = of_spectrum(np.r_[[5.0, 5, 5, 3, 1], np.zeros(55)])
    searches = [measure.top_eigenvalues(operator, 3, key=KEY, max_products=most) for most in range(6, 24)]
    is_right = [np.allclose(search.values, [5, 5, 5], rtol=1e-8) for search in searches]
    assert any(search.is_converged.all() and not right for search, right in zip(searches, is_right, strict=True))
    assert all(right or not search.is_complete for search, right in zip(searches, is_right, strict=True))
    assert measure.top_eigenvalues(operator, 3, key=KEY).is_complete
    assert all(search.num_products <= most for most, search in zip(range(6, 24), searches, strict=True))


def test_a_small_basis_is_restarted(of_spectrum, float64):
    pairs = measure.top_eigenvalues(
        of_spectrum(np.linspace(0, 1, 60) ** 2), 3, key=KEY, tolerance=1e-9, basis_size=8, max_products=3000
    )
    assert pairs.is_converged.all()
    assert_allclose(pairs.values, (np.arange(59, 56, -1) / 59) ** 2, rtol=1e-9)


def test_one_key_gives_one_result(of_spectrum, float64):
    operator = of_spectrum(SPECTRA["distinct"])
    first, same, other = (measure.top_eigenvalues(operator, 2, key=jax.random.key(seed)) for seed in (0, 0, 1))
    assert_array_equal(first.values, same.values)
    assert_array_equal(first.vectors, same.vectors)
    assert not np.array_equal(first.values, other.values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k=0: expected an integer of 1 to 3, the rows of the matrix"),
        ({"k": 4}, "k=4: expected an integer of 1 to 3"),
        ({"k": 1.0}, "k=1.0: expected an integer of 1 to 3"),
        ({"start": jnp.zeros(2)}, "the start has shapes (2,): expected those of params, (3,)."),
        ({"which": "first"}, "which='first': expected one of magnitude, largest, smallest."),
        ({"tolerance": 1e-7}, "tolerance=1e-07: expected at least 1.2e-06 in this type; use 64-bit params."),
        ({"tolerance": float("nan")}, "tolerance=nan: expected at least"),
        ({"max_products": 1}, "max_products=1: expected at least 2 = 2 k: k, and one check for each."),
        ({"rule_out": "all"}, "rule_out='all': expected one of copies, distinct, nothing."),
        ({"check": "all"}, "check='all': expected one of each, together."),
        ({"relative_to": "k"}, "relative_to='k': expected one of largest, each."),
        ({"certainty": 1.0}, "certainty=1.0: expected a number between 0 and 1, such as 0.9999."),
        ({"basis_size": 1}, "basis_size=1: expected at least k + 2 = 3."),
        ({"start": jnp.zeros(3)}, "start: expected a vector of finite, positive norm"),
    ],
)
def test_bad_options_are_refused(arguments, message):
    operator = measure.operator(product, jnp.zeros(3), jnp.eye(3))
    with pytest.raises(ValueError) as refused:
        measure.top_eigenvalues(operator, **{"key": KEY} | arguments)
    assert message in str(refused.value)


@pytest.mark.parametrize("measured", [measure.top_eigenvalues, measure.trace, measure.spectral_density])
def test_products_that_are_not_finite_are_refused(measured):
    operator = measure.operator(product, jnp.zeros(3), jnp.diag(jnp.array([1.0, jnp.nan, 1.0])))
    with pytest.raises(ValueError, match="the product with a vector is not finite: expected a loss with finite"):
        measured(operator, key=KEY)


def scaled(vector, diagonal):
    return diagonal * vector


UNIFORM = np.random.default_rng(0).uniform(size=20_000)
# Each with keys whose starts are nearly orthogonal to the leading vector: residuals are small before it appears.
HIDDEN = {
    "a few at 1": (np.r_[np.ones(10_000), np.zeros(9_999), 1.02], "largest", [3, 5, 6, 8], [19]),
    "weight decay": (np.r_[np.full(19_999, 0.01), 0.0105], "largest", [3, 5, 6, 8], [0]),
    "near pair": (np.r_[1, 0.999, 0.5 * UNIFORM[2:]], "largest", [0, 2, 13], [0]),
    "minimum": (np.r_[1, 0.5, -0.05, 1e-6 * UNIFORM[3:]], "smallest", [1, 4, 7, 15], [0]),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", HIDDEN)
def test_what_hides_from_a_start_is_not_called_complete(name, dtype):
    values, which, keys_of_one, keys_of_two = HIDDEN[name]
    with jax.enable_x64(dtype == np.float64):
        operator = measure.operator(scaled, jnp.zeros(len(values), dtype), jnp.asarray(values, dtype))
        for k, seeds in {1: keys_of_one, 2: keys_of_two}.items():
            true = wanted(values, k, which)
            for seed in seeds:
                pairs = measure.top_eigenvalues(operator, k, key=jax.random.key(seed), which=which)
                assert pairs.is_complete, "the search should not give up instead"
                assert pairs.num_products <= 30
                assert pairs.hidden_gap <= 1e-4 * np.max(np.abs(values)) * (1 + 1e-6)
                left_out = RANKS[which](true) - RANKS[which](pairs.values)
                assert np.all(left_out <= pairs.hidden_gap)
                assert np.all(left_out >= -1e-6)


# Those with a gap below what is wanted, of at least a twentieth of the spread.
@pytest.mark.parametrize(
    ("name", "k"),
    [("distinct", 1), ("repeated", 1), ("repeated", 2), ("negative leads", 2), ("plus and minus", 2), ("rank 2", 2)]
    + [("one value", 5), ("rank 2", 5), ("zero", 5), ("repeated at the edge of the wanted", 2)],
)
def test_well_separated_values_are_complete_after_few_products(name, k, of_spectrum):
    operator = of_spectrum(SPECTRA[name], np.float32)
    for which in ("magnitude", "largest"):
        pairs = measure.top_eigenvalues(operator, k, key=KEY, which=which)
        expected = RANKS[which](wanted(SPECTRA[name], k, which))
        assert_allclose(RANKS[which](pairs.values), expected, atol=5e-4)
        assert pairs.is_complete
        assert pairs.num_products <= 30


@pytest.mark.parametrize("certainty", [0.02, 0.9])
def test_the_hidden_gap_holds_as_often_as_it_says(certainty):
    """With a tolerance that residuals meet at once, the certainty decides: searches fail, but no more often."""
    values = np.r_[np.ones(1000), np.zeros(999), 1.02]
    operator = measure.operator(scaled, jnp.zeros(2000), jnp.asarray(values, jnp.float32))
    options = {"which": "largest", "tolerance": 0.015, "certainty": certainty}
    searches = [measure.top_eigenvalues(operator, key=jax.random.key(seed), **options) for seed in range(30)]
    assert all(search.is_complete for search in searches)
    assert 0 < np.mean([search.values[0] + search.hidden_gap + 1e-6 < 1.02 for search in searches]) <= 1 - certainty


def test_distinct_values_are_ruled_out_without_a_second_search(of_spectrum, float64):
    operator = of_spectrum(np.r_[5.0, 4, 3, np.linspace(-1, 1, 57)])
    copies = measure.top_eigenvalues(operator, 3, key=KEY)
    distinct = measure.top_eigenvalues(operator, 3, key=KEY, rule_out="distinct")
    assert_allclose(distinct.values, [5, 4, 3], rtol=1e-6)
    assert copies.is_complete
    assert distinct.is_complete
    assert distinct.num_products <= copies.num_products
    repeated = measure.top_eigenvalues(of_spectrum(SPECTRA["repeated"]), 2, key=KEY, rule_out="distinct")
    assert_allclose(repeated.values, [5, 4], rtol=1e-6)
    assert repeated.is_complete


# Rounding produces copies in 32 bits; locking does in 64, where the invariant space has few values.
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float32, 2e-6), (np.float64, 1e-4)])
def test_no_value_is_repeated_if_distinct_ones_are_wanted(dtype, tolerance):
    values = np.repeat([5.0, 4, 3, 0], 500)
    with jax.enable_x64(dtype == np.float64):
        operator = measure.operator(scaled, jnp.zeros(2000, dtype), jnp.asarray(values, dtype))
        # At a tolerance near rounding, the residual of four values in 32 bits never becomes small enough.
        most = 3 if (dtype, tolerance) == (np.float32, 2e-6) else 6
        for k, expected in ((2, [5, 4]), (most, [5, 4, 3, 0][:most])):
            options = {"which": "largest", "rule_out": "distinct", "tolerance": tolerance}
            pairs = measure.top_eigenvalues(operator, k, key=KEY, **options)
            assert_allclose(pairs.values, expected, atol=5 * tolerance)
            assert pairs.is_complete
            assert pairs.is_converged.all()


def test_the_hidden_gap_includes_the_residuals_of_locked_vectors(of_spectrum, float64):
    """Without a gap below the wanted values, vectors with residuals at the tolerance would hide as much again."""
    values = np.sort(1 - np.random.default_rng(0).uniform(size=60) ** 2)[::-1]
    for seed in range(4):
        pairs = measure.top_eigenvalues(of_spectrum(values), 3, key=jax.random.key(seed), tolerance=0.02)
        assert pairs.is_complete
        assert np.all(values[:3] - pairs.values <= pairs.hidden_gap)
        assert pairs.hidden_gap > np.linalg.norm(pairs.residuals) ** 2 / 0.04


@pytest.mark.parametrize("rule_out", ["copies", "distinct", "nothing"])
def test_one_product_checks_all_together(rule_out, of_spectrum, float64):
    operator = of_spectrum(np.r_[5.0, 5, 4, 3, np.linspace(-1, 1, 56)])
    options = {"key": KEY, "rule_out": rule_out, "tolerance": 1e-3}
    each, together = (measure.top_eigenvalues(operator, 4, check=check, **options) for check in ("each", "together"))
    assert_allclose(together.values, each.values, rtol=1e-5)
    assert together.is_converged.all()
    assert together.is_complete == each.is_complete == (rule_out != "nothing")
    assert together.num_products <= each.num_products - 3
    (matrix,) = operator.arrays
    true = [np.linalg.norm(matrix @ v - x * v) for x, v in zip(together.values, together.vectors, strict=True)]
    assert np.all(together.residuals <= 1e-3 * 5)
    assert np.all(np.array(true) <= 2 * together.residuals + 1e-12)


def test_a_tolerance_relative_to_each_value(of_spectrum, float64):
    operator = of_spectrum(np.r_[100.0, 50.0, np.linspace(1e-3, 1, 58)])
    pairs = measure.top_eigenvalues(operator, 1, key=KEY, which="smallest", relative_to="each", max_products=3000)
    assert_allclose(pairs.values, [1e-3], rtol=1e-4)
    assert pairs.residuals[0] <= 1e-4 * pairs.values[0]
    assert pairs.hidden_gap <= 1e-4 * pairs.values[0] * (1 + 1e-9)
    assert pairs.is_complete


def spectrum(random, size):
    """Draw a spectrum that is hard for Lanczos: various bulks, a few outliers, copies and near copies."""
    bulks = [
        np.zeros(size),
        random.choice([0.0, 1.0], size),
        random.uniform(0, 1, size),
        random.uniform(0, 1, size) ** 6,
        1e-6 * random.normal(size=size),
        np.full(size, 0.01),
        np.arange(1, size + 1) ** -1.0,
    ]
    bulk = bulks[random.integers(len(bulks))]
    edge = np.max(bulk)
    beyond = edge + np.max(np.abs(bulk), initial=0.1) * random.choice([1e-3, 0.02, 0.3, 3], random.integers(0, 5))
    return np.r_[beyond, bulk[len(beyond) :]]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [60, 1000, 30_000])
def test_no_wrong_completeness_in_hundreds_of_spectra(size, dtype):
    random = np.random.default_rng(size)
    with jax.enable_x64(dtype == np.float64):
        for seed in range(35):
            values = spectrum(random, size).astype(dtype)
            k, which = int(random.integers(1, 6)), sorted(RANKS)[random.integers(3)]
            operator = measure.operator(scaled, jnp.zeros(size, dtype), jnp.asarray(values))
            pairs = measure.top_eigenvalues(operator, k, key=jax.random.key(seed), which=which, max_products=300)
            true = wanted(values.astype(np.float64), k, which)
            rounding = 100 * np.finfo(dtype).eps * np.max(np.abs(values))
            left_out = RANKS[which](true) - RANKS[which](pairs.values)
            assert np.all(left_out <= pairs.hidden_gap + rounding)
            assert np.all(left_out >= -rounding)
            # Nor is the claim empty: it is made if the wanted values are separated by a hundredth.
            ranks = RANKS[which](wanted(values.astype(np.float64), k + 1, which))
            if ranks[k - 1] - ranks[k] > 0.01 * np.max(np.abs(values)):
                assert pairs.is_complete
