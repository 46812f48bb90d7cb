"""The configuration of one run: its fields, defaults and checks, and the part of it that identifies the run.

JAX is not imported here: faults are reported, and the number of threads is set, before it starts.
"""

from flatwide.config.checks import check_field, resolve, resolve_fields
from flatwide.config.files import load_file, override, read, read_text, variant
from flatwide.config.own import MAY_BE_OWN, fields_of_study
from flatwide.config.run_identity import base_optimizer, digest, effective_rho, identity
from flatwide.config.schema import SCHEMA, STUDY, ConfigError, default, field_like, literal, one_line, plain
from flatwide.config.shipped import listing

__all__ = [
    "MAY_BE_OWN",
    "SCHEMA",
    "STUDY",
    "ConfigError",
    "base_optimizer",
    "check_field",
    "default",
    "digest",
    "effective_rho",
    "field_like",
    "fields_of_study",
    "identity",
    "listing",
    "literal",
    "load_file",
    "one_line",
    "override",
    "plain",
    "read",
    "read_text",
    "resolve",
    "resolve_fields",
    "variant",
]
