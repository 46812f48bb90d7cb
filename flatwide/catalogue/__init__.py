"""The measurements that can be taken on the network of a run: one entry each, and how to look them up.

To add one, write `function(subject, *, key) -> Measured` in a file of `flatwide/measurements/` and its entry in
`flatwide/catalogue/shipped.py`; tables, figures and reports read it there. JAX is not imported here.
"""

from collections.abc import Callable, Sequence

from flatwide import registry
from flatwide.catalogue.entries import DRAWN, HEADLINE, LISTED, OTHER, Measurement, Quantity
from flatwide.catalogue.shipped import MEASUREMENTS


def entry(name: str) -> Measurement:
    """Return what is known of a measurement by the first word of its columns; of a user's own, the defaults."""
    return MEASUREMENTS.get(name) or Measurement(function="", section=OTHER, sentence="", quantities=())


def find(what: str, name: str) -> Callable:
    """Import the function of a measurement.

    Args:
      what: where the name was given, such as "config.measurements".
      name: a key of MEASUREMENTS, or `path/to/file.py:attribute`.
    Raises: as `registry.find`.
    """
    return registry.find(what, name, {known: one.function for known, one in MEASUREMENTS.items()})


def quantity(column: str) -> Quantity:
    """Describe a measured column, `<measurement>.<quantity>`; one without a row in the catalogue by its name."""
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
    """Return whether a measured column has a row in the catalogue."""
    return _row(*column.split(".", 1)) is not None


def place(column: str) -> tuple[int, int]:
    """Return the position of a measured column in the catalogue, to sort by; what is not described comes last."""
    measurement, _, name = column.partition(".")
    row, order = _row(measurement, name), list(MEASUREMENTS)
    if row is None:
        return len(order), 0
    return order.index(measurement), MEASUREMENTS[measurement].quantities.index(row)


def has_headline(measurement: str) -> bool:
    """Return whether a quantity says most of a measurement; a spectrum, for one, is told by a picture alone."""
    return any(one.role == HEADLINE for one in entry(measurement).quantities)


def title(name: str) -> str:
    """Return the word of a measurement in files and columns: its name, or that of the function in a user's file."""
    return name.rpartition(":")[2] if registry.is_own_file(name) else name


def version(name: str) -> str:
    """Return which definition of a measurement this is: a number, or a digest of a user's file."""
    return registry.content_digest(name)[:8] if registry.is_own_file(name) else str(entry(name).version)


def faults(what: str, names: Sequence[str]) -> list[str]:
    """List what is wrong with names of measurements.

    Args:
      what: where they were given, such as "config.measurements".
    """
    found, titles = [], {}
    for name in dict.fromkeys(map(registry.absolute, names)):
        try:
            if registry.is_own_file(name) or name not in MEASUREMENTS:
                find(what, name)
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


def _row(measurement: str, name: str) -> Quantity | None:
    """Return the row of a quantity: that of its name, or else the first "*" that its name begins like."""
    rows = entry(measurement).quantities
    exact = [row for row in rows if row.name == name]
    return next(iter(exact + [row for row in rows if row.name[-1] == "*" and name.startswith(row.name[:-1])]), None)
