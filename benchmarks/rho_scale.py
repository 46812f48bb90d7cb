"""The relative rise of the loss by the first ascents, at the radii that work best where SAM helps.

Run:     python benchmarks/rho_scale.py W [W ...]   (work directories of studies; a minute each)
Options: --seeds=3 (of each width and radius)
Prints:  a Markdown table: for each width, each radius that is not significantly worse than the best where the joint
         interval of the gain lies above 0, and the smallest and largest rise over seeds at it; for comparison the other
         radii. Then the smallest and largest rise at those that work: `sam.WORKING_RISES` is this range.
"""

import argparse
from pathlib import Path

import flatwide
from flatwide import diagnose
from flatwide.analysis import fields, rho, table
from flatwide.answers import headline
from flatwide.runs.directory import RunDirectory


def rises(workdir: Path, part: table.Part, num_params: int, radius: float, num_seeds: int) -> list[float]:
    """Measure the relative rise of the first seeds."""
    runs = fields.done(part.runs, ["run", "num_params"])
    here = [run["run"] for run in runs if run["num_params"] == num_params and fields.effective_rho(run) == radius]
    directories = [RunDirectory(workdir / "runs" / name) for name in here[:num_seeds]]
    return [diagnose.ascent(diagnose.experiment(directory)).relative_rise for directory in directories]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdirs", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    working = []
    print("| study | part | parameters | rho | works | relative rise in % |\n|---|---|---|---|---|---|")
    for workdir in options.workdirs:
        split = table.split(flatwide.load(workdir))
        for part, line in zip(split.parts, headline.headlines(split), strict=True):
            helped = {row.num_params for row in line.rows if row.low > 0}
            for width in part.widths:
                best = rho.confidence_set(width) if width.num_params in helped else []
                for radius in width.rhos:
                    found = rises(workdir, part, width.num_params, radius, options.seeds)
                    working += found if radius in best else []
                    ends = f"{100 * min(found):.2g} to {100 * max(found):.2g}"
                    cells = (
                        workdir.name,
                        part.name,
                        f"{width.num_params:,}",
                        f"{radius:g}",
                        "yes" if radius in best else "",
                        ends,
                    )
                    print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\nat radii that work: {100 * min(working):.3g} to {100 * max(working):.3g} % ({len(working)} networks)")


if __name__ == "__main__":
    main()
