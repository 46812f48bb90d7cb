"""A SAM step of the tagging Transformer (AdamW, batch 64, dropout 0.3) against PyTorch on the same batches and cores.

Run:     python benchmarks/transformer_step.py --peer_python=PATH_TO_A_PYTHON_WITH_TORCH
         [--hidden_size 64 128 256] [--num_layers 6] [--data_dir TREEBANK] [--size_window 16] [--threads 1]
         [--repeats 7]
Does:    what harness.py says, on batches of like length, which both cut to the levels of the data set. Without data_dir
         the sentences are made: 2,000 of the lengths of prose, over 33,000 words.
Prints:  as gcn_step.py.
"""

from pathlib import Path

import harness
import numpy as np

BATCH = 64
NUM_SENTENCES, NUM_WORDS, NUM_TAGS = 2_000, 33_000, 17
FIELDS = {
    "model": "TaggingTransformer",
    "dropout": 0.3,
    "base_optimizer": "adamw",
    "adam_betas": (0.9, 0.98),
    "adam_epsilon": 1e-9,
    "weight_decay": 0.1,
    "learning_rate": 1e-4,
    "lr_scheduler": "constant",
    "rho": 0.05,
    "batch_size": BATCH,
}


def made_treebank(*, size_window: int = 16):
    """Make sentences of the lengths of prose whose words are as many as a large treebank has."""
    from flatwide.data import conllu, words

    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(2.5, 0.6, NUM_SENTENCES).astype(int), 1, 100)
    text = [[str(word) for word in random.integers(0, NUM_WORDS, length)] for length in lengths]
    rows = [(sentence, [str(int(word) % NUM_TAGS) for word in sentence]) for sentence in text]
    vocabulary = {str(word): words.FIRST_WORD + word for word in range(NUM_WORDS)}
    tags = [str(tag) for tag in range(NUM_TAGS)]
    return conllu.dataset(rows, rows[:BATCH], vocabulary=vocabulary, tags=tags, size_window=size_window)


def main() -> None:
    parser = harness.arguments(__doc__, repeats=7)
    parser.add_argument("--hidden_size", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--num_layers", type=int, default=6)
    parser.add_argument("--data_dir")
    parser.add_argument("--size_window", type=int, default=16)
    flags = parser.parse_args()
    print(f"{harness.start(flags)}, {flags.num_layers} layers, batch {BATCH}", flush=True)
    dataset = "conllu" if flags.data_dir else f"{Path(__file__).resolve()}:made_treebank"
    fields = FIELDS | {"dataset": dataset, "data_dir": flags.data_dir, "size_window": flags.size_window}
    for hidden_size in flags.hidden_size:
        sizes = {"hidden_size": hidden_size, "num_layers": flags.num_layers}
        harness.compare(f"hidden_size={hidden_size}", fields | sizes, "torch_transformer.py", flags)


if __name__ == "__main__":
    main()
