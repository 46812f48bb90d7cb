"""Texts as numbers: a vocabulary, rows of tokens padded to one length, and the lengths that batches are cut to."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from flatwide.types import Batch, Padding

PADDING, UNKNOWN = 0, 1
FIRST_WORD = 2
NUM_LEVELS = 6  # each compiles once more
_BATCH, _NUM_EPOCHS = 64, 8  # of the batches that levels are chosen for


def vocabulary(texts: Iterable[Sequence[str]], *, min_word_count: int = 1) -> dict[str, int]:
    """Assign numbers from 2 on to the words of the training texts, the most frequent first, ties by spelling.

    Args:
      min_word_count: rarer words are left out, and so unknown.
    Returns: word -> token; with padding and unknown an embedding has two rows more than this has words.
    """
    counts = Counter(word for text in texts for word in text)
    frequent = [word for word, count in counts.items() if count >= min_word_count]
    ordered = sorted(frequent, key=lambda word: (-counts[word], word))
    return {word: token for token, word in enumerate(ordered, FIRST_WORD)}


def tokens(texts: Sequence[Sequence[str]], vocabulary: Mapping[str, int], *, length: int) -> np.ndarray:
    """Write texts as rows of tokens.

    Args:
      length: of the rows; longer texts are cut.
    Returns: [N, length] int32, padded with 0 at the end.
    """
    rows = np.full((len(texts), length), PADDING, np.int32)
    for row, text in zip(rows, texts, strict=True):
        numbers = [vocabulary.get(word, UNKNOWN) for word in text[:length]]
        row[: len(numbers)] = numbers
    return rows


def padding(lengths: np.ndarray, *, longest: int, window: int) -> Padding:
    """Describe how batches of texts are cut.

    Args:
      lengths: [N], of the training texts, whose batches choose the levels.
      longest: length of the longest text, training or test; the last level.
      window: as `Padding.window`.
    """
    return Padding(levels(np.append(_of_batches(lengths, window), longest)), sizes, cut, window)


def _of_batches(lengths: np.ndarray, window: int) -> np.ndarray:
    """Return the longest text of each batch of some epochs, which determine the cost of an epoch."""
    random, size = np.random.default_rng(0), min(_BATCH, len(lengths))
    longest = []
    for _ in range(_NUM_EPOCHS):
        order = np.resize(random.permutation(lengths), (-(-len(lengths) // size), size)).reshape(-1)
        parts = np.split(order, range(window * size, len(order), window * size))
        longest += [np.sort(part)[size - 1 :: size] for part in parts]
    return np.concatenate(longest)


def levels(lengths: np.ndarray, *, count: int = NUM_LEVELS) -> tuple[int, ...]:
    """Choose the lengths that leave the least padding when each text is padded to the next of them.

    Returns: at most `count` ascending lengths; the last is that of the longest text.
    Cost: count * d^2 for d different lengths.
    """
    values, occurrences = np.unique(lengths, return_counts=True)
    below = np.concatenate([[0], np.cumsum(occurrences)])
    # items[k, j]: the least that the shortest j lengths cost with k + 1 levels, the last of them values[j - 1].
    items = np.concatenate([[0], values * below[1:]]).astype(float)
    parents = []
    for _ in range(min(count, len(values)) - 1):
        choices = items[:, None] + np.concatenate([[0], values])[None, :] * (below[None, :] - below[:, None])
        choices[np.tril_indices(len(choices))] = np.inf
        choices[0, 0] = 0
        parents.append(np.argmin(choices, axis=0))
        items = np.min(choices, axis=0)
    chosen, end = [], len(values)
    for parent in [*reversed(parents), np.zeros(len(values) + 1, int)]:
        if end == 0:
            break
        chosen.append(int(values[end - 1]))
        end = int(parent[end])
    return tuple(reversed(chosen))


def sizes(batch: Batch):
    """Count the words of each text; [B]."""
    return (batch["inputs"] != PADDING).sum(axis=1)


def cut(batch: Batch, level: int) -> Batch:
    """Cut every array with an entry for each word to a length."""
    return {name: array[:, :level] if array.ndim > 1 else array for name, array in batch.items()}


def as_they_are(batch: Batch, key, *, train: bool) -> Batch:
    """Return a batch of tokens as it is: there is nothing to scale or to augment."""
    del key, train
    return batch
