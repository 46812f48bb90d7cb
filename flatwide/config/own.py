"""Fields that a user's Python files add to a config."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from flatwide import registry

MAY_BE_OWN = ("model", "dataset", "loss", "sam_variant")


def own_fields(values: Mapping[str, Any]) -> dict[str, inspect.Parameter]:
    """Return the fields that the builders in a user's files read.

    Raises: any error of importing such a file; ValueError if a model is a class.
    """
    fields: dict[str, inspect.Parameter] = {}
    for name in MAY_BE_OWN:
        value = values.get(name)
        if isinstance(value, str) and registry.is_own_file(value):
            builder = registry.find(f"config.{name}", value, {})
            if name == "model" and isinstance(builder, type):
                raise ValueError(registry.not_a_model(value, "is a class"))
            fields |= registry.fields(builder)
    return fields


def fields_of_study(base: Mapping[str, Any], study: Any) -> dict[str, Any]:
    """Return the fields of a config, and those that files of the user read which it or its study names.

    Returns: field -> the value in the config, else the default, else None. Of a file that cannot be imported, nothing.
    """
    fields: dict[str, Any] = {}
    for choice in _choices((base, study)):
        with suppress(Exception, SystemExit):  # `resolve` reports it
            fields |= {n: None if p.default is p.empty else p.default for n, p in own_fields(choice).items()}
    return fields | dict(base)


def _choices(value: Any) -> Iterator[dict[str, Any]]:
    """Yield each model, data set, loss and SAM variant that is named anywhere in nested values."""
    if isinstance(value, tuple):
        for item in value:
            yield from _choices(item)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            is_choice = name in MAY_BE_OWN
            items = item if isinstance(item, tuple) else (item,)
            yield from ({name: choice} for choice in items) if is_choice else _choices(item)


def own_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of those fields; none if a file cannot be imported, which `resolve` reports."""
    try:
        fields = own_fields(values)
    except (Exception, SystemExit):
        return {}
    return {name: p.default for name, p in fields.items() if p.default is not inspect.Parameter.empty}
