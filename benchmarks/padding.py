"""The share of padding in batches of texts: batches of similar length against batches in random order.

Run:     python benchmarks/padding.py [--dataset made_tagging] [--data_dir PATH] [--max_length 40] [--batch_size 64]
         [--size_window 16]
Does:    draws the batches of some epochs as a run does, and cuts each to the lowest of the data set's six lengths that
         holds it. `made_sentiment`, `conllu`, `sst2` and `labelled_text` are read alike.
Prints:  which part of the entries of a batch is padding: as in a run; with each batch a uniform draw, cut too; and with
         every text padded to the longest.
"""

import argparse

import numpy as np

from flatwide import data, registry
from flatwide.data import words
from flatwide.training.plans import Shuffled

NUM_EPOCHS = 5


def share(lengths: np.ndarray, *, longest: int, window: int, batch_size: int) -> float:
    """Compute the share of padding among the entries of some epochs."""
    padding = words.padding(lengths, longest=longest, window=window)
    plan = Shuffled(len(lengths), batch_size, padding)
    arrays = {"inputs": (np.arange(longest)[None] < lengths[:, None]).astype(np.int32)}
    real = computed = 0
    for epoch in range(NUM_EPOCHS):
        batches = lengths[np.asarray(plan.order(np.uint32(0), epoch, arrays))].reshape(-1, batch_size)
        cut = np.asarray(padding.levels)[np.searchsorted(padding.levels, batches.max(axis=1))]
        real, computed = real + batches.sum(), computed + batch_size * cut.sum()
    return 1 - real / computed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="made_tagging")
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--max_length", type=int, default=None)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--size_window", type=int, default=16)
    flags = parser.parse_args()

    build = registry.find("config.dataset", flags.dataset, data.DATASETS)
    given = {"data_dir": flags.data_dir, "max_length": flags.max_length}
    dataset = build(**{name: value for name, value in given.items() if value is not None})
    lengths, longest = np.asarray(words.sizes(dataset.train.arrays)), dataset.example.shape[0]
    like, drawn = (
        share(lengths, longest=longest, window=window, batch_size=flags.batch_size) for window in (flags.size_window, 1)
    )
    print(
        f"{flags.dataset}, {len(lengths):,} texts of {lengths.mean():.1f} words, at most {longest}, batches of "
        f"{flags.batch_size}: {like:.1%} padding with size_window={flags.size_window}, {drawn:.1%} with size_window=1, "
        f"{1 - lengths.mean() / longest:.1%} if every text is padded to the longest"
    )


if __name__ == "__main__":
    main()
