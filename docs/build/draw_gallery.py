"""Draw the pictures of the gallery of figures.

    python docs/build/draw_gallery.py runs docs/gallery

The first folder has the work directories of the studies that the gallery names, made by the commands on their pages.
Pictures of studies that are missing there are left as they are.
Four small studies that no page has are trained into it; their runs are not trained again. The second folder gets the
pictures.
"""

import sys
from pathlib import Path
from typing import Any

import flatwide
from flatwide.figures import rendering
from flatwide.runs.logs import say

_DIGITS = {"dataset": "digits", "model": "MLP", "optimizer": "sam", "lr_scheduler": "constant", "num_epochs": 5}

# Work directory -> config. They are examples of figures, too small to conclude anything from them.
SMALL: dict[str, dict[str, Any]] = {
    "gallery_minima": _DIGITS
    | {
        "measurements": ("curvature", "spectrum", "landscape"),
        "measure_examples": 500,
        "study": {"axes": {"num_neurons": ((16,),), "rho": (0.0, 0.05, 0.2), "seed": (0,)}, "workers": 1},
    },
    "gallery_trajectory": _DIGITS
    | {
        "num_epochs": 30,
        "measurements": ("trajectory",),
        "measure_epochs": tuple(range(31)),
        "measure_examples": 500,
        "study": {"axes": {"num_neurons": ((16,),), "rho": (0.0, 0.2), "seed": (0,)}, "workers": 1},
    },
    "gallery_sparsity": _DIGITS
    | {
        "study": {
            "axes": {
                "num_nonzero_params": (610,),
                "num_neurons": ((8,), (16,), (32,)),
                "pruner": ("random",),
                "rho": (0.0, 0.1),
                "seed": (0, 1, 2),
            },
            "workers": 1,
        }
    },
    "gallery_equal_compute": _DIGITS
    | {
        "study": {
            "axes": {"num_neurons": ((8,), (32,)), "seed": (0, 1, 2)},
            "points": ({"rho": 0.0, "num_epochs": 4}, {"rho": 0.0, "num_epochs": 8}, {"rho": 0.1, "num_epochs": 4}),
            "workers": 1,
        }
    },
}
# Work directory -> the figures that are drawn of it.
FIGURES = {
    "sst2_width": ("gain_by_width", "metric_by_width", "best_rho_by_width", "rho_by_width", "training_curves"),
    "data_width": ("gain_by_train_examples", "metric_by_train_examples", "gain_by_parameters_over_data"),
    "sam_variants": ("gain_overview",),
    "edge_along_training": ("edge_over_training", "measured_over_epochs"),
    "theory_convergence": ("convergence_by_width", "convergence_by_rho"),
    "theory_stability_6a": ("loss_on_sharpest_plane",),
    "theory_regression_1d": ("functions", "loss_on_line", "loss_on_minima_plane"),
    "gallery_minima": ("metric_by_flatness", "spectral_density", "loss_on_plane"),
    "gallery_trajectory": ("trajectory",),
    "gallery_sparsity": ("gain_by_sparsity", "metric_by_sparsity"),
    "gallery_equal_compute": ("gain_at_equal_compute", "metric_at_equal_compute"),
}


def main() -> None:
    """Train the small studies, draw the figures and write them."""
    runs, pictures = map(Path, sys.argv[1:])
    for name, config in SMALL.items():
        flatwide.run_study(config, runs / name)
    for study, names in FIGURES.items():
        if not (runs / study).is_dir():
            say(f"{runs / study} is missing: its pictures stay as they are; its page has the command that trains it")
            continue
        figures = flatwide.draw_figures(runs / study)
        # Descriptions of every mark for screen readers would double the files; the page has a text for each picture.
        specs = [figures[name].chart.to_dict() for name in names]
        jobs = [rendering.Job(kind="svg", spec=spec | {"config": spec["config"] | {"aria": False}}) for spec in specs]
        for name, content in zip(names, rendering.render(jobs), strict=True):
            (pictures / f"{name}.svg").write_bytes(content)


if __name__ == "__main__":
    main()
