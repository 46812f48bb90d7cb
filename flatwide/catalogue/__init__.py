"""The catalogue of measurements of the network of a run, and functions to look them up.

To add one, write `function(subject, *, key) -> Measured` in a file of `flatwide/measurements/` and its entry in
`flatwide/catalogue/shipped.py`, which tables, figures and reports read. This package does not import JAX.
"""

from collections.abc import Callable, Sequence

from flatwide import registry
from flatwide.catalogue.entries import DRAWN, HEADLINE, LISTED, OTHER, Measurement, Quantity
from flatwide.catalogue.shipped import MEASUREMENTS

_DIGITS = 8  # of the digest of a user's file; a shipped definition has a far shorter version


def entry(name: str) -> Measurement:
    """Return the entry of a measurement by the first part of its columns; defaults for a user-defined one."""
    return MEASUREMENTS.get(name) or Measurement(section=OTHER, sentence="", quantities=())


def find(what: str, name: str) -> Callable:
    """Import the function of a measurement.

    Args:
      what: source of the name for error messages, such as "config.measurements".
      name: a key of MEASUREMENTS, or `path/to/file.py:attribute`.
    Raises: as `registry.find`.
    """
    own = {key: f"flatwide.measurements.{key}:{key}" for key in MEASUREMENTS}
    return registry.find(what, name, own | {key: each.function for key, each in MEASUREMENTS.items() if each.function})


def quantity(column: str) -> Quantity:
    """Return the description of a measured column, `<measurement>.<quantity>`; made from its name if it has no row."""
    measurement, _, name = column.partition(".")
    row = _row(measurement, name)
    if row is not None:
        rest = name[len(row.name) - 1 :].replace("_", " ")
        title, symbol = (text.replace("{}", rest) for text in (row.title, row.symbol))
        return row._replace(name=column, title=title, symbol=symbol)
    words = name.replace("_", " ").strip() or measurement
    return Quantity(
        column,
        words if words.startswith(measurement) else f"{words} ({measurement})",
        role=LISTED if measurement in MEASUREMENTS else DRAWN,
        is_signed="margin" in name or ("eigenvalue" in name and "top" not in name),
    )


def is_described(column: str) -> bool:
    """Whether a measured column has a row in the catalogue."""
    return _row(*column.split(".", 1)) is not None


def place(column: str) -> tuple[int, int]:
    """Return the position of a measured column in the catalogue as a sort key; columns without a row come last."""
    measurement, _, name = column.partition(".")
    row, order = _row(measurement, name), list(MEASUREMENTS)
    if row is None:
        return len(order), 0
    return order.index(measurement), MEASUREMENTS[measurement].quantities.index(row)


def has_headline(measurement: str) -> bool:
    """Whether a measurement has a headline quantity; a spectrum, for example, has only a figure."""
    return any(item.role == HEADLINE for item in entry(measurement).quantities)


def title(name: str) -> str:
    """Return the name of a measurement in tables: its name, or that of the function in a user's file."""
    return f"own_{word(name)}" if registry.is_own_file(name) and word(name) in MEASUREMENTS else word(name)


def word(name: str) -> str:
    """Return the name of a measurement in its files, where the version tells a user's from a shipped one."""
    return name.rpartition(":")[2] if registry.is_own_file(name) else name


def in_tables(word: str, version: str) -> str:
    """Return the name in tables of a measurement in a file: `own_...` for a user's that has the name of a shipped."""
    return f"own_{word}" if len(version) == _DIGITS and word in MEASUREMENTS else word


def version(name: str) -> str:
    """Return the version of a measurement's definition: a number, or a digest of a user's file."""
    return registry.content_digest(name)[:_DIGITS] if registry.is_own_file(name) else str(entry(name).version)


def faults(what: str, names: Sequence[str]) -> list[str]:
    """Return error messages for invalid names of measurements.

    Args:
      what: source of the names for the messages, such as "config.measurements".
    """
    messages, titles = [], {}
    for name in dict.fromkeys(map(registry.absolute, names)):
        # A shipped one is not imported: it needs JAX.
        if name not in MEASUREMENTS and (message := registry.fault(what, name, dict.fromkeys(MEASUREMENTS, ""))):
            messages.append(message)
            continue
        if (first := titles.setdefault(title(name), name)) != name:
            messages.append(f"{what}={name!r}: {first!r} has the same name; rename one of the two functions.")
    return messages


def _row(measurement: str, name: str) -> Quantity | None:
    """Return the row of a quantity: that of its name, or else the first "*" row whose prefix matches."""
    rows = entry(measurement).quantities
    exact = [row for row in rows if row.name == name]
    return next(iter(exact + [row for row in rows if row.name[-1] == "*" and name.startswith(row.name[:-1])]), None)
