"""Whether the files of a run are as it wrote them: their checksums, and the fields of a config beside its identity."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from flatwide.config.own import MAY_BE_OWN
from flatwide.config.run_identity import base_optimizer, effective_rho
from flatwide.config.schema import SCHEMA

# Entries of a JSON file beside its content: a digest of all others, and the version of the run's files. From version 2
# on, every file has a checksum and the identity of its run; earlier versions did not write the entry.
CHECKSUM = "checksum"
FILE_VERSION = "file_version"
VERSION = 2

# Entries of config.json beside the config fields: the run's identity, and the fields that it did not read.
IDENTITY = "identity"
UNREAD = "unread"

# Fields that an identity lacks or changes for other reasons than a default value: the number of threads in effect,
# values equal to what holds by default for a model, pruner or batch, and names of files.
_NOT_COMPARED = {"threads", "layer_density", "num_blocks", "microbatch", "average_start", "optimizer", *MAY_BE_OWN}
_COMPARED = {
    name: list(field.default) if isinstance(field.default, tuple) else field.default
    for name, field in SCHEMA.items()
    if field.identity and name not in _NOT_COMPARED
}


def checksum(content: Mapping[str, Any]) -> str:
    """Return a digest of the entries of a JSON object, which is stored with them."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def edited(config: Mapping[str, Any]) -> str:
    """Return the first field of a config.json that contradicts its identity, with both values; "" if none does.

    A field without an entry in the identity was at its default, or not read; earlier versions did not record which.
    """
    if "optimizer" not in config:
        return ""
    identity, actual = config[IDENTITY], {**config, "rho": effective_rho(config)}
    actual["base_optimizer"] = base_optimizer(config)
    unread = {*config[UNREAD]} - {"rho", "base_optimizer"} if UNREAD in config else SCHEMA.keys() - {"rho", "seed"}
    unread -= identity.keys()
    for name, default in _COMPARED.items():
        if name in actual and name not in unread and actual[name] != (expected := identity.get(name, default)):
            return f"{name} is {json.dumps(actual[name])} and, in its identity, {json.dumps(expected)}"
    return ""
