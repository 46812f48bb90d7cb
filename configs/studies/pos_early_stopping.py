"""Does the gain of SAM on tagging still grow with width if training is not stopped early?

Run:     python main.py --workdir=runs/pos_width --config=configs/studies/pos_early_stopping.py
         --config.data_dir=DIRECTORY
         (the runs of pos_width.py, compared by their last evaluation instead of their best: in its workdir none is new)
Axes:    the paper's five widths, AdamW and SAM at seven radii, 3 seeds: 120 runs.
Source:  paper, tables 2 and 3, figure 5d.
"""

import pos_width


def get_config():
    config = pos_width.get_config()
    config.study.metric = "test_metric"
    return config
