"""A step of the decoder Transformer (batch 8, context 128) by AdamW and by SAM against PyTorch on the same cores.

Run:     python benchmarks/gpt_step.py --peer_python=PATH_TO_A_PYTHON_WITH_TORCH
         [--hidden_size 64 256] [--num_layers 4] [--rho 0 0.05] [--threads 1] [--repeats 7]
Does:    what harness.py says, on bytes of the standard library. PyTorch has its own fused attention and AdamW. The
         losses of three steps must agree to 1e-5, and the distances of the weights from their start to 5e-5.
Prints:  as gcn_step.py. A step is 1,024 tokens.
"""

import harness

FIELDS = {
    "model": "GPT",
    "dataset": "text",
    "loss": "next_token",
    "context_length": 128,
    "base_optimizer": "adamw",
    "adam_betas": (0.9, 0.95),
    "weight_decay": 0.1,
    "gradient_clip": 1.0,
    "learning_rate": 3e-4,
    "lr_scheduler": "constant",
    "batch_size": 8,
}
# Rounding of float32: relative to the change of the weights it is 2e-5 after four steps.
TOLERANCE = harness.Tolerance(num_steps=harness.CHECKED_STEPS, loss=1e-5, distance=5e-5)


def main() -> None:
    parser = harness.arguments(__doc__, repeats=7)
    parser.add_argument("--hidden_size", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--num_layers", type=int, default=4)
    parser.add_argument("--rho", type=float, nargs="+", default=[0.0, 0.05])
    flags = parser.parse_args()
    print(f"{harness.start(flags)}, {flags.num_layers} layers", flush=True)
    for hidden_size in flags.hidden_size:
        for rho in flags.rho:
            fields = FIELDS | {"hidden_size": hidden_size, "num_layers": flags.num_layers, "rho": rho}
            title = f"hidden_size={hidden_size}, rho={rho:g}"
            harness.compare(title, fields, "torch_gpt.py", flags, tolerance=TOLERANCE)


if __name__ == "__main__":
    main()
