"""Run by test_sharding.py in a process of its own with four devices: print what holds of a sharded state as JSON."""

import json
import re
import sys
from pathlib import Path

import jax
import numpy as np

from flatwide import experiment
from flatwide.runs import checkpoints, preview
from flatwide.runs import memory as program_memory
from flatwide.study import command
from flatwide.training.segments import compiled_step

FIELDS = {"num_neurons": (256, 64), "batch_size": 64, "rho": 0.1, "weight_average": "ema", "num_epochs": 2}
folder = Path(sys.argv[1])
states, report = {}, {}


def bytes_a_device(tree) -> int:
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


def largest_difference(a, b) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.max(np.abs(np.asarray(x, float) - np.asarray(y, float)))) for x, y in pairs)


def collectives(program) -> dict[str, int]:
    text = program.as_text()
    return {
        name: len(re.findall(rf"\b{name}(?:-start)?\(", text)) for name in ("all-gather", "all-reduce", "all-to-all")
    }


for is_sharded in (False, True):
    built = experiment.build(FIELDS | {"shard_parameters": is_sharded})
    state = built.init()
    batches = [jax.device_put(built.batch(step), built.sharding) for step in range(3)]
    program = compiled_step(built.step).lower(built.values, state, batches[0]).compile()
    names = {
        name: len(re.findall(rf"\b{name}(?:-start)?\(", program.as_text())) for name in ("all-gather", "all-reduce")
    }
    initial = jax.device_get(state)
    for batch in batches:
        state, _ = program(built.values, state, batch)
    states[is_sharded] = (initial, jax.device_get(state))
    memory = program.memory_analysis()
    report["sharded" if is_sharded else "replicated"] = {
        "collectives": collectives(program),
        "bytes": bytes_a_device(state),
        "temporary_bytes": memory.temp_size_in_bytes,
        "expected_bytes": program_memory.of_program(built),
        "flops": program.cost_analysis()["flops"],
    }
report["initial_difference"] = largest_difference(states[False][0], states[True][0])
report["difference"] = largest_difference(states[False][1], states[True][1])
report["splits"] = {
    name: [str(axis) for axis in leaf.sharding.spec] for name, leaf in checkpoints._named_leaves(state.params)
}

built = experiment.build(FIELDS | {"microbatch": 4})
program = compiled_step(built.step).lower(built.values, built.init(), batches[0]).compile()
report["whole microbatches"] = collectives(program)

cases = {"whole microbatches": {"microbatch": 2}, "rule with a state": {"microbatch": 2, "sam_variant": "friendly"}}
cases |= {"sharded": {"microbatch": 2, "shard_parameters": True}, "rows": {"microbatch": 16, "shard_parameters": True}}
report["device_warnings"] = {name: experiment.build(FIELDS | case).division.fault for name, case in cases.items()}

report["descriptions"] = {name: preview.describe(experiment.build(FIELDS | case)) for name, case in cases.items()}
study = {"axes": {"microbatch": (2, 16), "seed": (0, 1, 2)}}
report["study"] = command.dry_run({**FIELDS, "shard_parameters": True, "study": study}, folder / "study")

# Checkpoints: written in parts, read in parts, whole, or on other devices.
path = checkpoints.save(folder, 3, state, extra={"rows": 1})
report["name"] = path.name
whole, report["extra"] = checkpoints.load(path, jax.eval_shape(lambda: states[True][1]))
report["read_whole"] = largest_difference(whole, state)
two = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
on_two = jax.sharding.NamedSharding(two, jax.sharding.PartitionSpec())
like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=on_two), state)
newest = checkpoints.load_newest(folder, like)
report["read_on_two"] = largest_difference(newest.tree, state)
report["on_two"] = all(leaf.sharding.is_equivalent_to(on_two, leaf.ndim) for leaf in jax.tree.leaves(newest.tree))
newest = checkpoints.load_newest(folder, state)
report["read_in_parts"] = largest_difference(newest.tree, state)
report["bytes_read"] = bytes_a_device(newest.tree)

# Of three the oldest goes; a changed byte makes the run fall back to the one before.
for step in (4, 5):
    checkpoints.save(folder, step, state, extra={})
report["kept"] = sorted(path.name for path in folder.iterdir())
file = next(path for path in (folder / "step_00000005.orbax" / "d").iterdir())
content = bytearray(file.read_bytes())
content[len(content) // 2] ^= 1
file.write_bytes(content)
newest = checkpoints.load_newest(folder, state)
report["fell_back_to"], report["warnings"] = newest.step, newest.warnings
checkpoints.save(folder, 5, state, extra={})
newest = checkpoints.load_newest(folder, state)
report["saved_again"], report["at_the_end"] = newest.step, sorted(path.name for path in folder.iterdir())
sys.stdout.write(json.dumps(report))
