"""A SAM step of the vision transformer (batch 128, 32x32x3, patches of 4) against PyTorch on the same cores.

Run:     python benchmarks/vit_step.py --peer_python=PATH_TO_A_PYTHON_WITH_TORCH
         [--hidden_size 32 128 256] [--loop scan|call] [--threads 2] [--repeats 7]
Does:    what resnet_step.py does. PyTorch has its own fused attention, and its patches are cut beforehand.
Prints:  as resnet_step.py.
"""

import os

import resnet_step


def main() -> None:
    parser = resnet_step.arguments(__doc__)
    parser.add_argument("--hidden_size", type=int, nargs="+", default=[32, 128, 256])
    flags = parser.parse_args()
    os.environ["NPROC"] = str(flags.threads)

    import jax
    import jax.numpy as jnp

    from flatwide.models import vit

    print(resnet_step.describe(flags), flush=True)
    example = jax.ShapeDtypeStruct((32, 32, 3), jnp.float32)
    for hidden_size in flags.hidden_size:
        model = vit.vit(example, resnet_step.CLASSES, hidden_size=hidden_size)
        resnet_step.compare(f"hidden_size={hidden_size}", model, "torch_vit.py", flags)


if __name__ == "__main__":
    main()
