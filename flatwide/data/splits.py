"""Splits of a data set, and the pure functions of the seed that cut them and add label noise.

The order of use is hold_out, subset, add_label_noise: validation and test labels stay clean.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from flatwide import machine, streams
from flatwide.data.played import Game, Games, Played
from flatwide.types import Batch, Dataset, PyTree, Split


@dataclass(frozen=True, eq=False)
class Resident:
    """Examples held in memory.

    arrays: "inputs", "targets" and whatever else the objective needs: NumPy arrays, or pytrees of them, with one
      first axis of N examples. They are shared and not copied, by splits of a split too, so all are read-only here.
    """

    arrays: dict[str, Any]

    def __post_init__(self):
        if missing := {"inputs", "targets"} - set(self.arrays):
            raise ValueError(f"Resident has no {' and no '.join(sorted(missing))}; expected arrays of both names.")
        lengths = {_name(path): len(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(self.arrays)}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise ValueError(f"Resident has first axes {lengths}; expected one number of examples, at least 1.")
        object.__setattr__(self, "arrays", jax.tree.map(_read_only, self.arrays))

    @property
    def num_examples(self) -> int:
        """Count the examples."""
        return len(jax.tree.leaves(self.arrays)[0])

    @property
    def targets(self) -> np.ndarray:
        """Return the targets of the objective, [N, ...]."""
        return self.arrays["targets"]

    def take(self, indices: np.ndarray) -> "Resident":
        """Select examples, in the order of `indices`; consecutive ones are not copied."""
        rows = _slice_if_consecutive(indices)
        return replace(self, arrays=jax.tree.map(lambda array: array[rows], self.arrays))

    def with_targets(self, targets: np.ndarray) -> "Resident":
        """Replace the targets; all else is shared."""
        return replace(self, arrays={**self.arrays, "targets": targets})

    def batches(
        self, batch_size: int, *, order: np.ndarray, seed: int, epoch: int, train: bool, first_batch: int = 0
    ) -> Iterator[Batch]:
        """Yield the batches of `order` from number `first_batch` on; the last may be short."""
        for chosen in _chunks(order, batch_size, first_batch):
            yield self.take(chosen).arrays


@dataclass(frozen=True, eq=False)
class Consecutive(Resident):
    """Windows that follow each other in a sequence: each epoch cuts it at another offset, and parts are taken in order.

    All arrays are [N, L], one entry for each place of the sequence.
    """


def overlapping(sequence: dict[str, np.ndarray], length: int) -> Resident:
    """Cut a sequence into windows that overlap by half, and weigh each place 1 in one window and 0 in the others.

    The places that count follow others in their window, except in the first.

    Args:
      sequence: arrays [T], T >= length, with one entry for each place.
      length: of a window.
    Returns: the arrays as windows [N, length], and "weights" like them.
    """
    last = len(sequence["inputs"]) - length
    starts = np.union1d(np.arange(0, last + 1, max(1, length // 2)), [last])
    places = starts[:, None] + np.arange(length)
    scored_before = np.append(0, starts[:-1] + length)
    windows = {name: array[places] for name, array in sequence.items()}
    return Resident(windows | {"weights": (places >= scored_before[:, None]).astype(np.uint8)})


@dataclass(frozen=True, eq=False)
class Streamed:
    """Examples read when they are needed, by parallel threads, at most one batch ahead.

    read: (index, generator) -> the inputs of one example, a pytree of NumPy arrays, all examples alike. The index is
      into the source, however the split was cut. The generator is for augmentation: it depends on (seed, epoch, index)
      only, so neither the number of threads nor a resume changes a crop. It is None where there is none, in evaluation.
    targets: [N, ...], of the examples of this split.
    indices: [N], which examples of the source they are; None for the first N.
    threads: how many examples are read at a time; None for as many as there are cores.
    """

    read: Callable[[int, np.random.Generator | None], PyTree]
    targets: np.ndarray
    indices: np.ndarray | None = None
    threads: int | None = None
    _sources: np.ndarray = field(init=False, repr=False)

    def __post_init__(self):
        sources = np.arange(len(self.targets)) if self.indices is None else np.asarray(self.indices)
        if len(sources) != len(self.targets) or len(sources) == 0:
            raise ValueError(
                f"Streamed has {len(sources)} indices and {len(self.targets)} targets; expected as many, at least 1."
            )
        object.__setattr__(self, "_sources", sources)
        object.__setattr__(self, "targets", _read_only(self.targets))

    @property
    def num_examples(self) -> int:
        """Count the examples."""
        return len(self._sources)

    def take(self, indices: np.ndarray) -> "Streamed":
        """Select examples, in the order of `indices`; none is read."""
        rows = _slice_if_consecutive(indices)
        return replace(self, targets=self.targets[rows], indices=self._sources[rows])

    def with_targets(self, targets: np.ndarray) -> "Streamed":
        """Replace the targets."""
        return replace(self, targets=targets)

    def batches(
        self, batch_size: int, *, order: np.ndarray, seed: int, epoch: int, train: bool, first_batch: int = 0
    ) -> Iterator[Batch]:
        """Yield the batches of `order` from number `first_batch` on; the last may be short."""

        def inputs_of(source: int) -> PyTree:
            return self.read(source, streams.generator(seed, "augmentation", epoch, source) if train else None)

        chunks = list(_chunks(order, batch_size, first_batch))
        sources = (int(self._sources[row]) for chunk in chunks for row in chunk)
        read = _read_ahead(inputs_of, sources, ahead=batch_size, threads=self.threads or machine.available())
        for chunk in chunks:
            inputs = jax.tree.map(lambda *leaves: np.stack(leaves), *(next(read) for _ in chunk))
            yield {"inputs": inputs, "targets": self.targets[chunk]}


def dataset(
    train: Resident, test: Resident, *, prepare: Callable[..., Batch], num_outputs: int, example: PyTree = None
) -> Dataset:
    """Make a data set of splits in memory; an example is an array of the default float type if none is given."""
    shape = train.arrays["inputs"].shape[1:] if example is None else ()
    return Dataset(
        train=train,
        test=test,
        prepare=prepare,
        example=jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(float)) if example is None else example,
        num_outputs=num_outputs,
        fingerprint=fingerprint([train.arrays, test.arrays]),
    )


def is_compiled(split: Split) -> bool:
    """Whether a compiled program can hold the examples of a split, or play for them."""
    return isinstance(split, Resident) or (isinstance(split, Played | Games) and isinstance(split.game, Game))


def hold_out(split: Split, fraction: float, *, seed: int) -> tuple[Split, Split]:
    """Split validation examples from the training examples, uniformly at random; of a sequence the last ones.

    With one seed, the validation split of a smaller fraction is part of that of a larger one.

    Args:
      fraction: in (0, 1); round(fraction * N) examples are held out.
    Returns: (train, validation), each in the order of the whole.
    Raises: ValueError if either part would be empty.
    """
    total, held_out = split.num_examples, round(fraction * split.num_examples)
    if not 0 < held_out < total:
        raise ValueError(
            f"config.validation_fraction={fraction}: holds out {held_out} of {total} training examples; "
            "expected at least 1 held out and 1 left; choose another fraction."
        )
    if isinstance(split, Consecutive):
        train, last = (split.take(np.arange(*ends)) for ends in ((0, total - held_out), (total - held_out, total)))
        sequence = {name: array.reshape(-1) for name, array in last.arrays.items()}
        return train, overlapping(sequence, last.arrays["inputs"].shape[1])
    order = streams.generator(seed, "split").permutation(total)
    return split.take(np.sort(order[held_out:])), split.take(np.sort(order[:held_out]))


def subset(split: Split, num_examples: int, *, seed: int) -> Split:
    """Draw a subset of the examples, uniformly at random; of a sequence the first ones.

    With one seed, a smaller subset is part of a larger one, so that a learning curve adds examples and exchanges none.

    Args:
      num_examples: in [1, N].
    Returns: the subset, in the order of the whole.
    Raises: ValueError if there are not that many.
    """
    total = split.num_examples
    if not 1 <= num_examples <= total:
        raise ValueError(
            f"config.train_examples={num_examples}: expected an integer in [1, {total}]; "
            f"{total} training examples are left after the validation split."
        )
    if num_examples == total:
        return split
    if isinstance(split, Consecutive):
        return split.take(np.arange(num_examples))
    return split.take(np.sort(streams.generator(seed, "subset").permutation(total)[:num_examples]))


def add_label_noise(split: Split, fraction: float, *, num_classes: int, seed: int) -> Split:
    """Move exactly round(fraction * N) labels, each to one of the other classes uniformly.

    With one seed, a smaller fraction moves a part of the labels that a larger one moves, and to the same classes.

    Args:
      fraction: in [0, 1].
      num_classes: K >= 2; the targets are integers [N] in [0, K).
    Raises: ValueError if the targets are not classes.
    """
    labels, total = np.asarray(split.targets), split.num_examples
    _check_classes(labels, num_classes, fraction)
    generator = streams.generator(seed, "noise")
    moved = generator.permutation(total)[: round(fraction * total)]
    shifts = generator.integers(1, num_classes, size=total)
    noisy = labels.copy()
    noisy[moved] = (labels[moved] + shifts[moved]) % num_classes
    return split.with_targets(noisy)


def fingerprint(arrays: PyTree) -> str:
    """Digest the content of a pytree of arrays: names, dtypes, shapes and every entry.

    Returns: 64 hexadecimal digits.
    Cost: one pass over the bytes.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{_name(path)} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _check_classes(labels: np.ndarray, num_classes: int, fraction: float) -> None:
    field = f"config.label_noise={fraction}"
    if not 0 <= fraction <= 1:
        raise ValueError(f"{field}: expected a fraction in [0, 1].")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{field}: the targets are {labels.dtype}{list(labels.shape)}, not classes; "
            "labels are moved where each target is one integer only. Set config.label_noise=0."
        )
    if num_classes < 2:
        raise ValueError(f"{field}: num_classes={num_classes}; expected at least 2, to have a class to move to.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"{field}: the targets span {labels.min()} to {labels.max()}; expected classes in [0, {num_classes})."
        )


def _chunks(order: np.ndarray, batch_size: int, first_batch: int) -> Iterator[np.ndarray]:
    for start in range(first_batch * batch_size, len(order), batch_size):
        yield order[start : start + batch_size]


def _slice_if_consecutive(indices: np.ndarray) -> np.ndarray | slice:
    """Turn consecutive indices into a slice, which NumPy takes without a copy."""
    indices = np.asarray(indices)
    if len(indices) == 0 or indices[0] < 0 or (np.diff(indices) != 1).any():
        return indices
    return slice(int(indices[0]), int(indices[-1]) + 1)


def _read_only(array: np.ndarray) -> np.ndarray:
    """View an array so that writing to it is an error: one process may train several runs on the same memory."""
    if not isinstance(array, np.ndarray) or not array.flags.writeable:  # a JAX array cannot be written to either
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def _read_ahead(read: Callable[[int], PyTree], items: Iterable[int], *, ahead: int, threads: int) -> Iterator[PyTree]:
    """Yield read(item) in order; threads compute it when it is among the next `ahead` ones, so memory stays bounded."""
    pending: deque[Future] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="flatwide-read") as pool:
        try:
            for item in items:
                pending.append(pool.submit(read, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            # Left early (an error, or the run ends within an epoch): what has not started never will.
            for future in pending:
                future.cancel()


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
