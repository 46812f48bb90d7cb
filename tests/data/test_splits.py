"""Splits, and the pure functions of the seed."""

import hashlib
import threading
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from flatwide.data import Resident, Streamed, add_label_noise, fingerprint, hold_out, subset

NUM_CLASSES = 7


def resident(num_examples: int = 101) -> Resident:
    """Examples that say which they are."""
    index = np.arange(num_examples)
    return Resident({"inputs": index[:, None] * 10, "targets": (index % NUM_CLASSES).astype(np.int32)})


def streamed(num_examples: int = 101, **options) -> Streamed:
    """The same examples, read one by one."""
    return Streamed(lambda index, generator: np.array([index * 10]), resident(num_examples).targets, **options)


def identities(split) -> np.ndarray:
    """Return the numbers of the examples of a split, read from its batches."""
    order = np.arange(split.num_examples)
    batches = split.batches(16, order=order, seed=0, epoch=0, train=False)
    return np.concatenate([batch["inputs"][:, 0] // 10 for batch in batches])


both = pytest.mark.parametrize("make", [resident, streamed])


def test_a_resident_names_what_is_missing():
    with pytest.raises(ValueError, match="Resident has no targets"):
        Resident({"inputs": np.zeros((3, 2))})


@pytest.mark.parametrize("sizes", [(3, 4), (0, 0)])
def test_a_resident_has_one_number_of_examples(sizes):
    with pytest.raises(ValueError, match=rf"\{{'inputs': {sizes[0]}, 'targets': {sizes[1]}\}}; expected one number"):
        Resident({"inputs": np.zeros((sizes[0], 2)), "targets": np.zeros(sizes[1])})


def test_a_streamed_has_as_many_indices_as_targets():
    with pytest.raises(ValueError, match="2 indices and 3 targets"):
        Streamed(lambda index, generator: index, np.zeros(3), indices=np.arange(2))


def test_consecutive_examples_are_not_copied():
    whole = resident()
    part = whole.take(np.arange(20, 60))
    assert np.shares_memory(part.arrays["inputs"], whole.arrays["inputs"])
    assert_array_equal(part.arrays["inputs"], whole.arrays["inputs"][20:60])


@pytest.mark.parametrize("indices", [np.arange(20, 60), np.array([5, 3])])
@both
def test_what_is_shared_cannot_be_written_to(make, indices):
    whole = make()
    part = whole.take(indices)
    for arrays in (whole.targets, part.targets, part.with_targets(part.targets.copy()).targets):
        with pytest.raises(ValueError, match="read-only"):
            arrays[0] = 1
    if make is resident:
        batch = next(iter(whole.batches(8, order=np.arange(101), seed=0, epoch=0, train=True)))
        for arrays in (whole.arrays, part.arrays, batch):
            with pytest.raises(ValueError, match="read-only"):
                arrays["inputs"][0] = 1


def test_an_array_stays_writable_to_the_one_who_made_it():
    inputs = np.zeros((3, 2))
    split = Resident({"inputs": inputs, "targets": np.zeros(3)})
    inputs[0] = 1
    assert split.arrays["inputs"].tolist() == [[1, 1], [0, 0], [0, 0]]  # a view, which is read-only
    assert (inputs.flags.writeable, split.arrays["inputs"].flags.writeable) == (True, False)


@both
def test_a_split_has_examples(make):
    with pytest.raises(ValueError, match="at least 1"):
        make().take(np.array([], int))


@pytest.mark.parametrize("indices", [[5], [3, 4, 6], [6, 5, 4], [-2, -1], [2, 2]])
@both
def test_take_selects_in_the_order_given(make, indices):
    part = make().take(np.array(indices))
    assert_array_equal(identities(part), np.arange(101)[indices])
    assert_array_equal(part.targets, resident().targets[indices])


@both
def test_batches_follow_the_order_and_the_last_is_short(make):
    order = np.random.default_rng(0).permutation(101)
    batches = list(make().batches(25, order=order, seed=0, epoch=0, train=True))
    assert [len(batch["targets"]) for batch in batches] == [25, 25, 25, 25, 1]
    assert_array_equal(np.concatenate([batch["inputs"][:, 0] for batch in batches]), order * 10)
    assert_array_equal(np.concatenate([batch["targets"] for batch in batches]), order % NUM_CLASSES)


@both
def test_batches_can_start_in_the_middle(make):
    order = np.random.default_rng(0).permutation(101)
    options = {"order": order, "seed": 0, "epoch": 0, "train": True}
    whole = list(make().batches(25, **options))
    rest = list(make().batches(25, **options, first_batch=3))
    assert len(rest) == 2
    for batch, again in zip(whole[3:], rest, strict=True):
        assert_array_equal(batch["inputs"], again["inputs"])


def test_a_resident_may_hold_pytrees():
    arrays = {"inputs": {"tokens": np.arange(12).reshape(6, 2), "length": np.arange(6)}, "targets": np.arange(6)}
    split = Resident(arrays | {"weights": np.ones(6)})
    assert split.num_examples == 6
    batch = next(split.batches(2, order=np.array([4, 1]), seed=0, epoch=0, train=True))
    assert_array_equal(batch["inputs"]["tokens"], [[8, 9], [2, 3]])
    assert_array_equal(batch["inputs"]["length"], [4, 1])
    assert_array_equal(batch["weights"], [1, 1])


def test_a_streamed_stacks_pytrees():
    split = Streamed(lambda index, generator: {"a": np.full(2, index), "b": np.float64(index)}, np.zeros(9))
    batch = next(split.batches(3, order=np.array([8, 0, 2]), seed=0, epoch=0, train=False))
    assert_array_equal(batch["inputs"]["a"], [[8, 8], [0, 0], [2, 2]])
    assert_array_equal(batch["inputs"]["b"], [8, 0, 2])


# Streaming: what an example becomes depends on (seed, epoch, its own index) only.


def draws(split: Streamed, *, seed: int = 3, epoch: int = 2) -> dict[int, float]:
    """Read all examples of a split whose inputs are [index, random number]."""
    order = np.random.default_rng(1).permutation(split.num_examples)
    batches = split.batches(8, order=order, seed=seed, epoch=epoch, train=True)
    return {int(index): number for batch in batches for index, number in batch["inputs"]}


def random_split(threads: int) -> Streamed:
    def read(index, generator):
        time.sleep(0.002 * (index % 3 == 0))  # threads finish out of order
        return np.array([index, generator.random()])

    return Streamed(read, np.zeros(40), threads=threads)


def test_threads_and_cuts_change_no_draw():
    alone = draws(random_split(1))
    assert len(set(alone.values())) == 40
    assert draws(random_split(4)) == alone
    part = draws(random_split(4).take(np.array([31, 2, 17])))
    assert part == {index: alone[index] for index in (31, 2, 17)}


def test_seed_and_epoch_change_the_draws():
    alone = draws(random_split(2))
    assert set(alone.values()).isdisjoint(draws(random_split(2), seed=4).values())
    assert set(alone.values()).isdisjoint(draws(random_split(2), epoch=3).values())


def test_evaluation_has_no_generator():
    seen = []
    split = Streamed(lambda index, generator: seen.append(generator) or np.zeros(1), np.zeros(5))
    list(split.batches(2, order=np.arange(5), seed=0, epoch=0, train=False))
    assert seen == [None] * 5


def test_reading_stays_one_batch_ahead():
    read = []
    split = Streamed(lambda index, generator: read.append(index) or np.zeros(1), np.zeros(1000), threads=4)
    batches = split.batches(10, order=np.arange(1000), seed=0, epoch=0, train=False)
    next(batches)
    time.sleep(0.1)  # time enough to read all, were it not bounded
    assert len(read) <= 20
    next(batches)
    time.sleep(0.1)
    assert len(read) <= 30


def test_reading_is_parallel():
    barrier = threading.Barrier(3, timeout=20)  # passes only if three are read at the same time
    split = Streamed(lambda index, generator: np.array(barrier.wait()), np.zeros(6), threads=3)
    assert len(list(split.batches(6, order=np.arange(6), seed=0, epoch=0, train=False))) == 1


def test_an_error_of_the_reader_reaches_the_caller():
    def read(index, generator):
        if index == 5:
            raise ValueError("example 5 is broken")
        return np.zeros(1)

    batches = Streamed(read, np.zeros(100)).batches(4, order=np.arange(100), seed=0, epoch=0, train=False)
    next(batches)
    with pytest.raises(ValueError, match="example 5 is broken"):
        next(batches)


def test_a_stream_left_early_stops_its_threads():
    read = []

    def read_slowly(index, generator):
        read.append(index)
        time.sleep(0.05 * (index >= 100))
        return np.zeros(1)

    split = Streamed(read_slowly, np.zeros(400), threads=2)
    batches = split.batches(100, order=np.arange(400), seed=0, epoch=0, train=False)
    next(batches)
    assert any(thread.name.startswith("flatwide-read") for thread in threading.enumerate())
    batches.close()
    assert not any(thread.name.startswith("flatwide-read") for thread in threading.enumerate())
    assert len(read) < 200  # the second batch was asked for, but not read to its end


# Cuts.


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.994])
@both
def test_hold_out_parts_the_examples(make, fraction):
    train, validation = hold_out(make(), fraction, seed=0)
    assert validation.num_examples == round(101 * fraction)
    held_out, kept = identities(validation), identities(train)
    assert_array_equal(np.sort(np.concatenate([held_out, kept])), np.arange(101))
    assert_array_equal(validation.targets, held_out % NUM_CLASSES)
    assert_array_equal(train.targets, kept % NUM_CLASSES)


@both
def test_subset_draws_that_many(make):
    part = subset(make(), 30, seed=0)
    chosen = identities(part)
    assert len(set(chosen)) == part.num_examples == 30
    assert_array_equal(part.targets, chosen % NUM_CLASSES)


@both
def test_a_subset_of_all_is_the_whole(make):
    whole = make()
    assert subset(whole, 101, seed=0) is whole


def chosen(how, fraction, seed):
    """Return the numbers of the examples that a cut or label noise chooses."""
    if how == "noise":
        noisy = add_label_noise(resident(), fraction, num_classes=NUM_CLASSES, seed=seed)
        return np.flatnonzero(noisy.targets != resident().targets)
    cut = hold_out(resident(), fraction, seed=seed)[1] if how == "hold_out" else None
    return identities(cut or subset(resident(), round(101 * fraction), seed=seed))


every_choice = pytest.mark.parametrize("how", ["hold_out", "subset", "noise"])


@every_choice
def test_what_is_chosen_is_a_function_of_the_seed(how):
    assert chosen(how, 0.2, 0).tolist() == chosen(how, 0.2, 0).tolist() != chosen(how, 0.2, 1).tolist()


@every_choice
def test_less_is_a_part_of_more(how):
    assert set(chosen(how, 0.2, 5)) < set(chosen(how, 0.6, 5))


@every_choice
def test_every_example_is_as_likely(how):
    # Each example is chosen in half of the seeds: 400 draws, standard deviation 10; all 101 within 4.5 of them.
    counts = np.zeros(101)
    for seed in range(400):
        counts[chosen(how, 0.5, seed)] += 1
    assert np.abs(counts - 400 * 50 / 101).max() < 45


@pytest.mark.parametrize("fraction", [0.001, 0.999, -0.1, 1.0])
def test_hold_out_refuses_an_empty_part(fraction):
    with pytest.raises(ValueError, match=rf"config.validation_fraction={fraction}: holds out -?\d+ of 101"):
        hold_out(resident(), fraction, seed=0)


@pytest.mark.parametrize("number", [0, 102])
def test_subset_refuses_what_is_not_there(number):
    with pytest.raises(ValueError, match=rf"config.train_examples={number}: expected an integer in \[1, 101\]"):
        subset(resident(), number, seed=0)


# Label noise.


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.5, 0.75, 1.0])
@both
def test_label_noise_moves_exactly_that_many(make, fraction):
    clean = make()
    noisy = add_label_noise(clean, fraction, num_classes=NUM_CLASSES, seed=0)
    before, after = resident().targets, noisy.targets
    assert np.sum(before != after) == round(fraction * 101)
    assert after.dtype == before.dtype
    assert after.min() >= 0
    assert after.max() < NUM_CLASSES
    assert_array_equal(clean.targets, before)  # not changed in place
    assert_array_equal(identities(noisy), np.arange(101))


def test_label_noise_is_uniform_over_the_other_classes():
    # 20,000 labels of class 2, all moved: 10,000 +- 71 in each of two other classes.
    split = Resident({"inputs": np.zeros(20_000), "targets": np.full(20_000, 2, np.int32)})
    counts = np.bincount(add_label_noise(split, 1.0, num_classes=3, seed=0).targets, minlength=3)
    assert counts[2] == 0
    assert abs(counts[0] - 10_000) < 4 * 71


def test_less_label_noise_has_the_classes_of_more():
    clean = resident().targets
    less, more = (
        add_label_noise(resident(), fraction, num_classes=NUM_CLASSES, seed=0).targets for fraction in (0.2, 0.6)
    )
    assert_array_equal(less[less != clean], more[less != clean])


def test_label_noise_does_not_overflow_small_integers():
    split = Resident({"inputs": np.zeros(500), "targets": np.full(500, 199, np.uint8)})
    noisy = add_label_noise(split, 1.0, num_classes=200, seed=0).targets
    assert noisy.dtype == np.uint8
    assert len(np.unique(noisy)) > 100


@pytest.mark.parametrize(
    ("targets", "num_classes", "fraction", "message"),
    [
        (np.zeros(4), 3, 0.5, r"config.label_noise=0.5: the targets are float64\[4\], not classes"),
        (np.zeros((4, 2), int), 3, 0.5, r"the targets are int64\[4, 2\], not classes"),
        (np.array([0, 1, 2, 3]), 3, 0.5, r"the targets span 0 to 3; expected classes in \[0, 3\)"),
        (np.array([0, -1, 2, 1]), 3, 0.5, r"the targets span -1 to 2"),
        (np.zeros(4, int), 1, 0.5, "num_classes=1; expected at least 2"),
        (np.zeros(4, int), 3, 1.5, r"config.label_noise=1.5: expected a fraction in \[0, 1\]"),
    ],
)
def test_label_noise_refuses_what_is_no_class(targets, num_classes, fraction, message):
    split = Resident({"inputs": np.zeros(4), "targets": targets})
    with pytest.raises(ValueError, match=message):
        add_label_noise(split, fraction, num_classes=num_classes, seed=0)


# Fingerprints.


def test_fingerprint_is_sha256_of_names_types_shapes_and_bytes():
    array = np.array([[1, 2], [3, 4]], np.int32)
    expected = hashlib.sha256(b"a/b <i4 (2, 2)\n" + array.astype("<i4").tobytes()).hexdigest()
    assert fingerprint({"a": {"b": array}}) == expected
    assert fingerprint({"a": {"b": np.asfortranarray(array)}}) == expected


def test_fingerprint_sees_every_difference():
    array = np.arange(6, dtype=np.uint8)
    variants = [
        {"a": array},
        {"b": array},
        {"a": array[::-1]},
        {"a": array.reshape(2, 3)},
        {"a": array.astype(np.int16)},
        {"a": np.where(array == 5, 6, array).astype(np.uint8)},
        {"a": array[:3], "b": array[3:]},
        {"a": np.array(["x", "y"])},
        {"a": np.array(["x", "z"])},
    ]
    assert len({fingerprint(variant) for variant in variants}) == len(variants)
