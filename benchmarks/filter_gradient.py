"""The filter gradient of a 3x3 convolution with few channels, image by image, against XLA's own convolution.

Run:     python benchmarks/filter_gradient.py [--threads 1] [--repeats 7]
Does:    both forms of flatwide/models/convolution.py at batch 128, inside a compiled loop as in training, in turn.
Prints:  for each shape the least processor time of both, in milliseconds, and their ratio.
"""

import time

import harness
import numpy as np

BATCH = 128
LOOP = 2
SHAPES = ((32, 16, 16), (16, 16, 16), (8, 16, 16), (4, 16, 16), (32, 8, 8), (16, 8, 8), (32, 4, 4), (32, 3, 16))


def main() -> None:
    flags = harness.arguments(__doc__, repeats=7).parse_args()
    print(harness.start(flags))

    import jax
    import jax.numpy as jnp

    from flatwide.models import convolution

    def program(gradient, window):
        def run(inputs, outputs):
            def body(total, shift):  # other inputs in each turn, so that nothing leaves the loop
                return total + jnp.sum(gradient(inputs + shift, outputs, window=window)), None

            return jax.lax.scan(body, jnp.zeros(()), jnp.arange(float(LOOP)))[0]

        return jax.jit(run)

    random = np.random.default_rng(0)
    for side, channels, filters in SHAPES:
        window = convolution.Window((side, side), (3, 3), (1, 1), ((1, 1), (1, 1)))
        operands = [jnp.asarray(random.normal(size=(BATCH, side, side, n)), float) for n in (channels, filters)]
        forms = (convolution.filter_gradient_by_xla, convolution.filter_gradient_by_image)
        programs = [program(form, window) for form in forms]
        first = [float(run(*operands)) for run in programs]
        if not np.isclose(*first, rtol=1e-3, atol=1):
            raise SystemExit(f"the two forms differ: {first}.")
        seconds: list[list[float]] = [[], []]
        for _ in range(flags.repeats):
            for run, times in zip(programs, seconds, strict=True):
                began = time.process_time()
                jax.block_until_ready(run(*operands))
                times.append((time.process_time() - began) / LOOP)
        xla, image = (1e3 * min(times) for times in seconds)
        print(
            f"{side}x{side}, {channels} -> {filters}: {xla:.2f} ms by XLA, {image:.2f} ms by image, {image / xla:.2f}"
        )


if __name__ == "__main__":
    main()
