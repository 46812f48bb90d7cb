"""Compiling and training one run of the demo with options that make XLA compile faster.

Run:     python benchmarks/compile_options.py
Prints:  for each set of options the processor time of the first epoch, which compiles, and of the 59 others, and a
         digest of the final weights.
"""

import functools
import hashlib
import os
import time

import harness

OPTIONS = {
    "none": None,
    "no fusion emitters": {"xla_cpu_use_fusion_emitters": False},
    "level 1": {"xla_backend_optimization_level": 1},
    "both": {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1},
}


def main() -> None:
    os.environ["NPROC"] = "1"
    import jax
    import numpy as np

    from flatwide import experiment
    from flatwide.config import load_file
    from flatwide.training import stretch

    study = load_file(str(harness.HERE.parent / "configs" / "studies" / "digits_label_noise.py"))
    fields = {name: value for name, value in study.items() if name != "study"} | {"num_neurons": (64,), "rho": 0.1}
    built, jit = experiment.build(fields), jax.jit
    for name, options in OPTIONS.items():
        stretch._program.cache_clear()
        state = built.init()
        jax.jit = functools.partial(jit, compiler_options=options)
        began = time.process_time()
        epochs = built.take_epochs(state, seconds=1.0)
        next(epochs)
        first, began = time.process_time() - began, time.process_time()
        *_, last = epochs
        others = time.process_time() - began
        jax.jit = jit
        weights = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(last.state.params))
        digest = hashlib.sha256(weights).hexdigest()[:8]
        print(f"{name}: {first:.2f} s, {others:.3f} s, weights {digest}", flush=True)


if __name__ == "__main__":
    main()
