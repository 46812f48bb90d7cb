"""The identity of a run: the fields that determine its result."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from flatwide.config.schema import SCHEMA


def identity(config: Mapping[str, Any], *, irrelevant: set[str], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Select the fields that identify a run: those that can change a result and differ from their defaults.

    Args:
      config: a resolved config.
      irrelevant: fields whose value has no effect.
      extra: facts from outside the config, such as the fingerprint of the data.
    """
    canonical = dict(config) | {
        "base_optimizer": base_optimizer(config),
        "optimizer": "sam",
        "rho": effective_rho(config),
    }
    chosen = {
        name: value
        for name, value in canonical.items()
        if name not in irrelevant and (name not in SCHEMA or (SCHEMA[name].identity and value != SCHEMA[name].default))
    }
    return json.loads(json.dumps(chosen | dict(extra), sort_keys=True))


def digest(identity_fields: Mapping[str, Any]) -> str:
    """Hash an identity into eight hexadecimal digits."""
    return hashlib.sha256(json.dumps(identity_fields, sort_keys=True).encode()).hexdigest()[:8]


def effective_rho(config: Mapping[str, Any]) -> float:
    """Return the rho in effect: 0 unless the optimizer is SAM."""
    return config["rho"] if config["optimizer"] == "sam" else 0.0


def base_optimizer(config: Mapping[str, Any]) -> str:
    """Return the optimizer that takes the step."""
    return config["base_optimizer"] if config["optimizer"] == "sam" else config["optimizer"]
