"""A SAM step of the vision transformer (batch 128, 32x32x3, patches of 4) against PyTorch on the same cores.

Run:     python benchmarks/vit_step.py --peer_python=PATH_TO_A_PYTHON_WITH_TORCH
         [--hidden_size 32 128 256] [--loop scan|call] [--threads 1] [--repeats 7]
Does:    what harness.py says, on made images. PyTorch has its own fused attention, and its patches are cut beforehand;
         `loop` as for resnet_step.py.
Prints:  as gcn_step.py.
"""

import harness
import made_data

FIELDS = made_data.IMAGE_STEP | {"model": "ViT"}


def main() -> None:
    parser = harness.arguments(__doc__, repeats=7)
    parser.add_argument("--hidden_size", type=int, nargs="+", default=[32, 128, 256])
    parser.add_argument("--loop", choices=["scan", "call"], default="scan")
    flags = parser.parse_args()
    print(f"{harness.start(flags)}, loop {flags.loop}", flush=True)
    for hidden_size in flags.hidden_size:
        fields = FIELDS | {"hidden_size": hidden_size}
        harness.compare(f"hidden_size={hidden_size}", fields, "torch_vit.py", flags, loop=flags.loop)


if __name__ == "__main__":
    main()
