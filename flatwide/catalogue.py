"""The measurements that can be taken on the network of a run, by name.

To add one, write `function(subject, *, key) -> Measured` in a file of `flatwide/measurements/` and one line of
MEASUREMENTS; docs/extending.md shows one. JAX is not imported here.
"""

from collections.abc import Sequence

from flatwide import registry

MEASUREMENTS: dict[str, str] = {
    "activations": "flatwide.measurements.activations:activations",
    "barrier": "flatwide.measurements.barrier:barrier",
    "convergence": "flatwide.measurements.convergence:convergence",
    "curvature": "flatwide.measurements.curvature:curvature",
    "function": "flatwide.measurements.function:function",
    "gradient": "flatwide.measurements.gradient:gradient",
    "landscape": "flatwide.measurements.landscape:landscape",
    "layers": "flatwide.measurements.layers:layers",
    "moments": "flatwide.measurements.moments:moments",
    "robustness": "flatwide.measurements.robustness:robustness",
    "sharpness": "flatwide.measurements.sharpness:sharpness",
    "smoothness": "flatwide.measurements.smoothness:smoothness",
    "spectrum": "flatwide.measurements.spectrum:spectrum",
    "stability": "flatwide.measurements.stability:stability",
    "trajectory": "flatwide.measurements.trajectory:trajectory",
}
# Raised by one where the definition of a measurement changes its numbers, so that old files are not taken for new ones.
VERSIONS: dict[str, int] = {}


def title(name: str) -> str:
    """Give the word that files and columns have for a measurement: its name, or that of the function in one's file."""
    return name.rpartition(":")[2] if registry.is_own_file(name) else name


def version(name: str) -> str:
    """Tell which definition of a measurement this is: a number, or a digest of one's own file."""
    return registry.content_digest(name)[:8] if registry.is_own_file(name) else str(VERSIONS.get(name, 1))


def faults(what: str, names: Sequence[str]) -> list[str]:
    """Say what is wrong with names of measurements.

    Args:
      what: where they stand, such as "config.measurements".
    """
    found, titles = [], {}
    for name in dict.fromkeys(map(registry.absolute, names)):
        try:
            if registry.is_own_file(name) or name not in MEASUREMENTS:
                registry.find(what, name, MEASUREMENTS)
        except (Exception, SystemExit) as error:
            is_told = isinstance(error, ValueError) and not registry.is_from_own_file(error)
            found.append(str(error) if is_told else f"{what}={name!r}: {type(error).__name__}: {error}")
            continue
        own = title(name)
        if registry.is_own_file(name) and own in MEASUREMENTS:
            found.append(f"{what}={name!r}: {own!r} is the name of a measurement of flatwide; choose another one.")
        elif titles.setdefault(own, name) != name:
            found.append(f"{what}={name!r}: {titles[own]!r} has the same name; rename one of the two functions.")
    return found
