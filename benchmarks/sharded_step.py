"""What does a SAM step hold and do on each device, with parameters whole or in parts on all of them?

Run:     python benchmarks/sharded_step.py [--devices 4] [--layers 6] [--width 512] [--batch 1024]
Does:    compiles one step of an MLP on the digits with simulated devices of the CPU, with and without
         `config.shard_parameters`, and reads memory, operations and collectives off the compiled programs. Memory is in
         copies of the parameters: the state (parameters and momentum), and the temporaries of a step at their peak,
         activations included. Operations are those of a device
         over those of one device that does all; loops count as often as they run. Nothing is timed.
"""

import argparse
import math
import os
import re


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1024)
    arguments = parser.parse_args()
    os.environ |= {"JAX_NUM_CPU_DEVICES": str(arguments.devices), "JAX_PLATFORMS": "cpu"}  # before JAX is imported
    base = {"num_neurons": (arguments.width,) * arguments.layers, "batch_size": arguments.batch, "rho": 0.1}
    print("| step | state | temporaries | all-gathers | all-reduces | operations |")
    print("|---|---|---|---|---|---|")
    for extra in ({}, {"accumulation_steps": 4}, {"microbatch": arguments.batch // 8}):
        whole = operations(compiled(base | extra, is_on_one=True)[0])
        for is_sharded in (False, True):
            program, num_bytes = compiled(base | extra | {"shard_parameters": is_sharded})
            memory = program.memory_analysis()
            held, temporary = memory.alias_size_in_bytes / num_bytes, memory.temp_size_in_bytes / num_bytes
            text = program.as_text()
            counts = [len(re.findall(rf"\b{name}(?:-start)?\(", text)) for name in ("all-gather", "all-reduce")]
            name = ", ".join(f"{key}={value}" for key, value in extra.items()) or "SAM"
            print(
                f"| {name}, {'sharded' if is_sharded else 'whole'} | {held:.2f} | {temporary:.2f} | "
                f"{counts[0]} | {counts[1]} | {operations(program) / whole:.2f} |",
                flush=True,
            )


def compiled(fields: dict, *, is_on_one: bool = False):
    """Compile a step, on all devices or on one; return the program, and the bytes of the parameters."""
    import jax

    from flatwide import experiment
    from flatwide.training import devices
    from flatwide.training.segments import compiled_step

    if is_on_one:
        over_devices, devices.over_devices = devices.over_devices, lambda is_local=False: None
    built = experiment.build(fields)
    if is_on_one:
        devices.over_devices = over_devices
    state = built.init()
    batch = jax.device_put(built.batch(0), built.sharding)
    program = compiled_step(built.step).lower(built.values, state, batch).compile()
    return program, sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))


def operations(program) -> float:
    """Count the operations of a device; the compiler's own count has the body of a loop once."""
    trips = re.findall(r'"known_trip_count":\{"n":"(\d+)"', program.as_text())
    return program.cost_analysis()["flops"] * (math.prod(map(int, trips[:1])) if trips else 1)


if __name__ == "__main__":
    main()
