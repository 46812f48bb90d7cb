"""Fields that a user's Python files add to a config."""

import inspect
from collections.abc import Mapping
from typing import Any

from flatwide import registry

MAY_BE_OWN = ("model", "dataset", "loss", "sam_variant")


def own_fields(values: Mapping[str, Any]) -> dict[str, inspect.Parameter]:
    """Return the fields that the builders in a user's files read.

    Raises: any error of importing such a file.
    """
    fields: dict[str, inspect.Parameter] = {}
    for name in MAY_BE_OWN:
        value = values.get(name)
        if isinstance(value, str) and registry.is_own_file(value):
            fields |= registry.fields(registry.find(f"config.{name}", value, {}))
    return fields


def own_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of those fields; none if a file cannot be imported, which `resolve` reports."""
    try:
        fields = own_fields(values)
    except (Exception, SystemExit):
        return {}
    return {name: p.default for name, p in fields.items() if p.default is not inspect.Parameter.empty}
