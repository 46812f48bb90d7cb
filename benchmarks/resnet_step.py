"""A SAM step of the small-image ResNet-18 (batch 128, 32x32x3) against PyTorch, channels last, on the same cores.

Run:     python benchmarks/resnet_step.py --peer_python=PATH_TO_A_PYTHON_WITH_TORCH
         [--num_filters 4 16 64] [--convolution flatwide|plain] [--loop scan|call] [--threads 1] [--repeats 7]
Does:    what harness.py says, on made images. `plain` is XLA's own convolution; `scan` runs a block as one compiled
         loop, as training does, `call` one compiled step after the other.
Prints:  as gcn_step.py.
"""

import functools

import harness
import made_data

FIELDS = made_data.IMAGE_STEP | {"model": "ResNet18"}
# At 4 filters the perturbed gradients of one step differ by 1e-3 already, and the losses of the next by 6e-4.
TOLERANCE = harness.Tolerance(num_steps=1, loss=1e-5, distance=1e-2)


def use_plain_convolution() -> None:
    """Let every model convolve by XLA's own convolution."""
    from flax import linen as nn

    from flatwide.models import resnet

    resnet.Conv = functools.partial(nn.Conv, use_bias=False)


def main() -> None:
    parser = harness.arguments(__doc__, repeats=7)
    parser.add_argument("--num_filters", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--convolution", choices=["flatwide", "plain"], default="flatwide")
    parser.add_argument("--loop", choices=["scan", "call"], default="scan")
    flags = parser.parse_args()
    print(f"{harness.start(flags)}, {flags.convolution} convolution, loop {flags.loop}", flush=True)
    if flags.convolution == "plain":
        use_plain_convolution()
    for num_filters in flags.num_filters:
        fields = FIELDS | {"num_filters": num_filters}
        title, options = f"num_filters={num_filters}", {"loop": flags.loop, "tolerance": TOLERANCE}
        harness.compare(title, fields, "torch_resnet.py", flags, **options)


if __name__ == "__main__":
    main()
