"""Division of the work of a step over the devices."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from flatwide.sam.pieces import goes_to_devices
from flatwide.types import PyTree


class Division(NamedTuple):
    """What each device does of a step.

    num_rows: examples whose gradient it computes at a time. text: which part of the work it does. fault: why it does
    all of it, or "".
    """

    num_rows: int
    text: str
    fault: str = ""


def divide(config: Mapping[str, Any], num_devices: int, *, ascent_state: PyTree) -> Division:
    """Return how a step of a resolved config is divided over devices.

    Args:
      config: the resolved config.
      num_devices: over which a step may be divided; 1 for a step on one device.
      ascent_state: the state of the SAM rule; one with leaves passes from each microbatch to the next.
    """
    num_rows = (config["microbatch"] or config["batch_size"]) // config["accumulation_steps"]
    count = config["batch_size"] // (config["microbatch"] or config["batch_size"])  # each has its perturbation
    if num_devices == 1:
        return Division(num_rows, "does all the work")
    if not config["shard_parameters"] and goes_to_devices(count, num_devices, ascent_state=ascent_state):
        return Division(num_rows, f"takes {count // num_devices} of the {count} microbatches")
    if num_rows % num_devices == 0:
        piece = "piece" if config["accumulation_steps"] > 1 else "microbatch" if config["microbatch"] else "batch"
        text = f"takes {num_rows // num_devices} of the {num_rows} examples of a {piece}"
        return Division(num_rows // num_devices, text)
    defaults = {"microbatch": None, "accumulation_steps": 1, "batch_size": None}
    named = ", ".join(f"config.{name}={config[name]}" for name, value in defaults.items() if config[name] != value)
    ways = f"{num_rows} examples at a time, expected a multiple of the {num_devices} devices"
    if config["microbatch"] and not config["shard_parameters"] and not jax.tree.leaves(ascent_state):
        ways += f", or {count} microbatches, expected a multiple too"
    fault = f"{named}: {ways}. Each device does all the work of a step; change one of these numbers."
    return Division(num_rows, "does all the work", fault)
