"""A SAM step of the graph network (Adam, batch 256, dropout 0.1) against PyTorch on the same batches and cores.

Run:     python benchmarks/gcn_step.py --peer_python=PATH_TO_A_PYTHON_WITH_TORCH
         [--hidden_size 128 256] [--num_layers 5] [--threads 1] [--repeats 7]
Does:    what harness.py says, on RDKit's molecules, packed into the rooms of the data set. PyTorch gets the batches
         without padding, and each batch's sparse matrix is made beforehand.
Prints:  for each width how far the two agree, how much of what is computed is padding, and of wall and of processor
         time the seconds a step and the ratio ours / PyTorch, medians with the ratio's range.
"""

import harness
import numpy as np

BATCH = 256
FIELDS = {
    "model": "GCN",
    "dropout": 0.1,
    "dataset": "made_molecules",
    "loss": "binary_cross_entropy",
    "base_optimizer": "adam",
    "learning_rate": 1e-3,
    "lr_scheduler": "constant",
    "rho": 0.05,
    "batch_size": BATCH,
}


def without_padding(padding, batch) -> dict[str, np.ndarray]:
    """Put the graphs of a batch one behind the other."""
    del padding
    inputs, counts = batch["inputs"], batch["inputs"]["num_nodes"].astype(np.int64)
    first = np.cumsum(counts) - counts
    edges = zip(inputs["edges"], inputs["num_edges"], first, strict=True)
    return {
        "nodes": np.concatenate([rows[:count] for rows, count in zip(inputs["nodes"], counts, strict=True)]),
        "edges": np.concatenate([rows[:count] + at for rows, count, at in edges]),
        "num_nodes": counts,
        "targets": batch["targets"],
    }


def main() -> None:
    parser = harness.arguments(__doc__, repeats=7)
    parser.add_argument("--hidden_size", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--num_layers", type=int, default=5)
    flags = parser.parse_args()
    print(f"{harness.start(flags)}, {flags.num_layers} steps of message passing, batch {BATCH}", flush=True)
    for hidden_size in flags.hidden_size:
        harness.compare(
            f"hidden_size={hidden_size}",
            FIELDS | {"hidden_size": hidden_size, "num_layers": flags.num_layers},
            "torch_gcn.py",
            flags,
            write=without_padding,
            num_items=lambda batch: batch["inputs"]["num_nodes"],
        )


if __name__ == "__main__":
    main()
