"""Config files, and the flags that override them."""

import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections

from flatwide import registry
from flatwide.config import shipped
from flatwide.config.own import MAY_BE_OWN, own_defaults
from flatwide.config.schema import SCHEMA, STUDY, ConfigError, Field, describe, field_like, literal, one_line, plain

_HINT = "expected a config file such as configs/digits_mlp.py, or a name that `flatwide configs` lists"

_RANGE = re.compile(r"range\((\s*-?\d{1,18}\s*(?:,\s*-?\d{1,18}\s*)?(?:,\s*-?[1-9]\d{0,17}\s*)?)\)")


def read(config: Any) -> dict[str, Any]:
    """Return the plain values of a config: its fields, or what `load_file` names.

    Raises: ConfigError if it is neither, or the file fails.
    """
    if isinstance(config, str | os.PathLike):
        return load_file(os.fspath(config))
    if not _is_mapping(config):
        shown = registry.shown(config)
        raise ConfigError([f"config={shown}: expected fields such as {{'rho': 0.05}}, or the name of a config file."])
    return plain(config)


def load_file(path: str) -> dict[str, Any]:
    """Read a config file `path.py`, or `path.py:argument` for `get_config(argument)`, into plain values.

    Args:
      path: a file, or the name of a config that ships, such as `mnist_mlp` or `studies/mnist_width`.
    Raises: ConfigError if the file is missing, defines no `get_config`, or fails.
    """
    file, argument = _split(path)
    spec = importlib.util.spec_from_file_location("flatwide_config_file", file)
    if spec is None or spec.loader is None:
        raise ConfigError([f"--config={path}: expected a Python file ending in .py that defines get_config()."])
    module = importlib.util.module_from_spec(spec)
    folder, loaded = Path(file).resolve().parent, set(sys.modules)
    sys.path.insert(0, str(folder))  # so that a variant can import its parent beside it
    try:
        spec.loader.exec_module(module)
        config = module.get_config(argument) if argument else module.get_config()
    except ConfigError as error:
        raise ConfigError([f"--config={path}: {fault}" for fault in error.faults]) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(
            [f"--config={path}: the file fails with {type(error).__name__}: {one_line(error)}"]
        ) from error
    finally:
        sys.path.pop(0)
        # Forget modules of this folder: another folder may have a module of the same name.
        for name in set(sys.modules) - loaded:
            if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == folder:
                del sys.modules[name]
    if not _is_mapping(config):
        raise ConfigError([f"--config={path}: get_config() returned {type(config).__name__}; expected a ConfigDict."])
    try:
        return plain(config)
    except TypeError as error:  # a ConfigDict sorts its names
        raise ConfigError([f"--config={path}: expected texts as the names of all fields ({error})."]) from error


def variant(variants: Mapping[str, Any], name: str) -> Any:
    """Return the variant of a config file that its argument names, the `name` of `--config=path.py:name`.

    Raises: ConfigError listing the known names.
    """
    if name not in variants:
        raise ConfigError([registry.unknown("variant of this config", name, variants)])
    return variants[name]


def read_text(path: str) -> str:
    """Read the text of a config file, named as in `load_file`.

    Raises: ConfigError if the file is missing.
    """
    return Path(_split(path)[0]).read_text(encoding="utf-8", errors="replace")


def _split(path: str) -> tuple[str, str]:
    """Split `path.py:argument`, or `name:argument` of a config that ships, into the file and the argument."""
    if path.endswith(".py") or ".py:" in path:
        stem, _, argument = path.removesuffix(".py").partition(".py:")
        file = Path(f"{stem}.py")
        if not file.is_file():
            raise ConfigError([f"--config={path}: there is no file {str(file)!r}; {_HINT}."])
        return str(file), argument
    name, _, argument = path.partition(":")
    if name not in shipped.names():
        raise ConfigError([f"{registry.unknown('--config', name, shipped.names())} Or {_HINT}."])
    return str(shipped.path(name)), argument


def override(values: Mapping[str, Any], assignments: list[tuple[str, str]]) -> tuple[dict[str, Any], list[str]]:
    """Apply flags `--config.field=text` to plain values.

    Returns: the new values, and the faults of flags that could not be applied.
    """
    values, faults = dict(values), []
    for name, text in assignments:
        if name.startswith("study."):
            values["study"] = _assigned(values.get("study", {}), name.split(".")[1:], text)
    assignments = [(name, text) for name, text in assignments if not name.startswith("study.")]
    varied = study_fields(values)
    faults += [
        f"--config.{name}: the study sets it; {varied[name]}."
        for name in sorted({name for name, _ in assignments} & set(varied))
    ]
    # Names of user files come first: they may add fields that other flags set.
    for name, text in sorted(assignments, key=lambda assignment: assignment[0] not in MAY_BE_OWN):
        if name not in SCHEMA and name not in values:
            values |= own_defaults(values)
        if name not in SCHEMA and name not in values:
            faults.append(registry.unknown("config field", name, [*SCHEMA, *values]))
            continue
        field = SCHEMA.get(name) or field_like(values[name])
        try:
            values[name] = _parse(text, field)
        except ValueError:
            faults.append(f"config.{name}={registry.shown(text)}: expected {describe(field)}.")
    return values, faults


def study_fields(values: Mapping[str, Any]) -> dict[str, str]:
    """Map the fields that the axes, points or parts of a study set to advice on how to change them."""
    study = values.get("study")
    changes = _varied_fields(study, "study")
    for name, part in _section(study, "parts").items():
        where = f"study.parts.{name}"
        changes |= _varied_fields(part, where)
        changes |= {field: _setting(where, field) for field in part if field not in STUDY} if _is_mapping(part) else {}
    return changes | {field: _setting("study.axes", field) for field in _section(study, "axes")}


def _varied_fields(section: Any, where: str) -> dict[str, str]:
    """Map the fields that axes and points of a study or part set to advice on how to change them."""
    points = section.get("points") if _is_mapping(section) else ()
    points = [point for point in points if _is_mapping(point)] if isinstance(points, list | tuple) else []
    how = f"change config.{where}.points in the file"
    return {field: how for point in points for field in point} | {
        field: _setting(f"{where}.axes", field) for field in _section(section, "axes")
    }


def _setting(where: str, field: str) -> str:
    return f"set --config.{where}.{field}"


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping | ml_collections.ConfigDict)


def _section(values: Any, name: str) -> Mapping[str, Any]:
    section = values.get(name) if isinstance(values, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def _assigned(study: Any, names: list[str], text: str) -> Any:
    """Set a nested field of a study; its faults are reported when the study is read."""
    if not names:
        if match := _RANGE.fullmatch(text.strip()):
            return range(*map(int, match[1].split(",")))
        try:
            return literal(text)
        except ValueError:
            return {"true": True, "false": False, "none": None}.get(text.lower(), text)
    study = dict(study) if isinstance(study, Mapping) else {}
    return study | {names[0]: _assigned(study.get(names[0], {}), names[1:], text)}


def _parse(text: str, field: Field) -> Any:
    if field.optional and text.lower() == "none":
        return None
    if field.kind == "bool":
        if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise ValueError(text)
        return text.lower() in ("true", "1", "yes")
    if field.kind == "int":
        return int(text, 0)
    if field.kind == "float":
        return float(text)
    if field.kind == "str":
        return text
    try:
        value = literal(text) if text.strip() else ()
    except ValueError:
        if field.kind != "strs":
            raise ValueError(text) from None
        value = tuple(part.strip() for part in text.split(","))
    return tuple(value) if isinstance(value, list | tuple) else (value,)
