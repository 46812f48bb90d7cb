"""Does the gain of SAM over SGD grow with width when half of the labels are wrong?

Run:     python examples/digits_label_noise.py --workdir=runs/demo        (or `make demo`)
Data:    scikit-learn's 8x8 digits, which need no download; half of the training labels are replaced at random.
Shape:   one hidden layer of 4 to 128 neurons, SGD and SAM at six radii, 8 seeds, 60 epochs: 336 runs.
"""

import argparse
import concurrent.futures
import multiprocessing
import time
from pathlib import Path

import flatwide
from flatwide import cores
from flatwide.config import load_file

WIDTHS = (4, 8, 16, 32, 64, 128)
RHOS = (0.0, 0.01, 0.02, 0.1, 0.2, 0.35, 0.5)
SEEDS = range(8)
CONFIG = Path(__file__).parents[1] / "configs" / "digits_mlp.py"


def train_width(width: int, workdir: str) -> None:
    """Train all runs of one width; they share two compiled programs, one for SGD and one for SAM."""
    base = load_file(str(CONFIG)) | {"num_neurons": (width,), "label_noise": 0.5, "threads": 1}
    for rho in RHOS:
        for seed in SEEDS:
            flatwide.run(base | {"rho": rho, "seed": seed}, workdir, quiet=True)


def main(workdir: str) -> None:
    from flatwide import results
    from flatwide.analysis import gain
    from flatwide.analysis.answer import answer
    from flatwide.figures import gain as figures
    from flatwide.figures.save import save

    began = time.monotonic()
    num_workers = min(len(WIDTHS), cores.available())
    print(f"{len(WIDTHS) * len(RHOS) * len(SEEDS)} runs in {num_workers} processes; what is done already is kept.")
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        # The widest take longest, so they go first.
        waiting = {pool.submit(train_width, width, workdir): width for width in reversed(WIDTHS)}
        for done in concurrent.futures.as_completed(waiting):
            done.result()
            print(f"width {waiting[done]:4d} done after {time.monotonic() - began:.0f} s", flush=True)
    results.write_results(workdir)
    runs = flatwide.load(workdir)
    table = gain.gain_by_width(runs, width="num_neurons")
    print("\nTest accuracy on clean labels; half of the training labels are wrong; best rho chosen on the test set.\n")
    print(gain.format_table(table))
    print(f"\n{answer(runs)}")
    pairs = gain.pair_seeds(runs)
    save(figures.gain_against_width(pairs), Path(workdir) / "figures" / "gain_by_width", data=pairs)
    print(f"\nTable: {workdir}/results.csv   figure: {workdir}/figures/gain_by_width.svg")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", default="runs/demo")
    main(parser.parse_args().workdir)
