"""A SAM step of the LSTM on texts of unequal length (batch 64, dropout 0.5) against PyTorch, on the same cores.

Run:     python benchmarks/lstm_step.py --peer_python=PATH_TO_A_PYTHON_WITH_TORCH
         [--hidden_size 32 128 256] [--threads 1] [--repeats 7]
Does:    what harness.py says, on synthetic texts, put in order of length as in training. Ours cuts each batch to the
         lowest of six lengths that holds it; PyTorch cuts it to its longest text, and runs nn.LSTM once on packed
         sequences and once on padded ones.
Prints:  as gcn_step.py; the ratio is to the faster of the two ways of PyTorch.
"""

from pathlib import Path

import harness
import numpy as np

BATCH, NUM_BATCHES = 64, 16
NUM_WORDS, LONGEST = 13_521, 52  # as in SST-2
FIELDS = {
    "model": "LSTM",
    "dropout": 0.5,
    "dataset": f"{Path(__file__).resolve()}:made_texts",
    "base_optimizer": "sgd",
    "momentum": 0.8,
    "weight_decay": 3e-6,
    "learning_rate": 0.1,
    "lr_scheduler": "constant",
    "rho": 0.1,
    "batch_size": BATCH,
}


def made_texts():
    """Make texts of the lengths that sentences have, of two classes."""
    from flatwide.data import Resident, words
    from flatwide.types import Categories, Dataset

    random, count = np.random.default_rng(0), NUM_BATCHES * BATCH
    lengths = np.clip(random.gamma(4.0, 5.0, count).round(), 2, LONGEST).astype(int)
    rows = random.integers(1, NUM_WORDS, (count, LONGEST), np.int32)
    rows[np.arange(LONGEST) >= lengths[:, None]] = words.PADDING
    texts = Resident({"inputs": rows, "targets": random.integers(0, 2, count, np.int32)})
    return Dataset(
        train=texts,
        test=texts,
        prepare=words.as_they_are,
        example=Categories((LONGEST,), NUM_WORDS),
        num_outputs=2,
        fingerprint="made",
        padding=words.padding(lengths, longest=LONGEST, window=NUM_BATCHES),
    )


def main() -> None:
    parser = harness.arguments(__doc__, repeats=7)
    parser.add_argument("--hidden_size", type=int, nargs="+", default=[32, 128, 256])
    flags = parser.parse_args()
    print(f"{harness.start(flags)}, {NUM_BATCHES} batches of {BATCH}", flush=True)
    for hidden_size in flags.hidden_size:
        fields = FIELDS | {"hidden_size": hidden_size}
        harness.compare(f"hidden_size={hidden_size}", fields, "torch_lstm.py", flags, ways=("packed", "padded"))


if __name__ == "__main__":
    main()
