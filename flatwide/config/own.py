"""What a user's own files add to a config."""

import inspect
from collections.abc import Mapping
from typing import Any

from flatwide import registry

MAY_BE_OWN = ("model", "dataset", "loss", "sam_variant")


def own_fields(values: Mapping[str, Any]) -> dict[str, inspect.Parameter]:
    """List the fields that the builders in a user's own files read.

    Raises: whatever importing such a file raises.
    """
    found: dict[str, inspect.Parameter] = {}
    for name in MAY_BE_OWN:
        value = values.get(name)
        if isinstance(value, str) and registry.is_own_file(value):
            found |= registry.fields(registry.find(f"config.{name}", value, {}))
    return found


def own_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the defaults of those fields; none where a file cannot be read, which the checks of a config say."""
    try:
        fields = own_fields(values)
    except (Exception, SystemExit):
        return {}
    return {name: p.default for name, p in fields.items() if p.default is not inspect.Parameter.empty}
