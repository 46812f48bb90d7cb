"""Lookup of models, data sets, losses and the like by name, or in a user's Python file.

A registry is a plain dict from a name to `module:attribute`; nothing is imported before it is looked up. An object in a
user's file is named `path/to/file.py:attribute`.
"""

import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

_OWN = "flatwide_own_file_"
_MOST_SHOWN = 200  # characters of a value in a message
_MOST_NAMES, _NEAREST = 24, 8  # names that a message lists; of more, only the nearest to one that resembles some


def unknown(field: str, name: object, allowed: Iterable[object]) -> str:
    """Return the message that a name is unknown, with the known names, or the nearest of many; it may have any type."""
    allowed = sorted(set(map(str, allowed)))
    known = {name.lower(): name for name in reversed(allowed)}
    # Longer texts are not misspelled names, and comparing them takes time.
    lowered = name.lower() if isinstance(name, str) and len(name) <= 200 else ""
    nearest = [known[match] for match in difflib.get_close_matches(lowered, known, n=_NEAREST, cutoff=0.5)]
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    is_cut = len(allowed) > _MOST_NAMES and nearest
    listed = f"{', '.join(nearest)} and {len(allowed) - len(nearest)} more" if is_cut else ", ".join(allowed)
    return f"{field}={shown(name)} is not known.{hint} Known: {listed}."


def repeated(names: Iterable[str]) -> str:
    """Return the first name in alphabetical order that is not empty and occurs more than once, or ""."""
    return min((name for name, count in Counter(names).items() if name and count > 1), default="")


def shown(value: object) -> str:
    """Return the `repr` of a value for a message, on one line and shortened if it is long."""
    try:
        text = " ".join(repr(value).split())
    except Exception as error:  # an integer of thousands of digits, or an object of a user's class
        return f"a {type(value).__name__} that cannot be printed ({type(error).__name__})"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}... ({len(text):,} characters)"


def is_own_file(name: str) -> bool:
    """Whether a name refers to a user's Python file."""
    return ".py:" in name


def own_file(name: str) -> Path:
    """Return the file of a name `path/to/file.py:attribute`."""
    return Path(name.rpartition(":")[0]).expanduser().resolve()


def absolute(name: str) -> str:
    """Make the path in a name that refers to a user's file absolute; return other names unchanged."""
    return f"{own_file(name)}:{name.rpartition(':')[2]}" if is_own_file(name) else name


def content_digest(name: str) -> str:
    """Return a digest of a user's file, which changes when the file is edited; "" for a registered name."""
    return hashlib.sha256(own_file(name).read_bytes()).hexdigest()[:16] if is_own_file(name) else ""


def find(field: str, name: str, allowed: Mapping[str, str]) -> Callable:
    """Import the object that a name refers to.

    Args:
      field: the config field, for the message, such as "config.model".
      name: a key of `allowed`, or `path/to/file.py:attribute`.
      allowed: name -> "package.module:attribute".
    Raises: ValueError if the name is unknown, or the user's file or attribute does not exist.
    """
    if not is_own_file(name):
        if name not in allowed:
            raise ValueError(unknown(field, name, allowed) + " Your own: path/to/file.py:name.")
        module_name, _, attribute = allowed[name].partition(":")
        return getattr(importlib.import_module(module_name), attribute)
    path, attribute = own_file(name), name.rpartition(":")[2]
    if not path.is_file():
        raise ValueError(f"{field}={name!r}: there is no file {str(path)!r}; give a path to a Python file that exists.")
    value = getattr(_load(path), attribute, None)
    if not callable(value):
        raise ValueError(f"{field}={name!r}: {path} defines no function or class {attribute!r}; define it there.")
    return value


def fault(field: str, name: str, allowed: Mapping[str, str]) -> str:
    """Return the message of why `find` fails for a name, or "" if it does not."""
    try:
        find(field, name, allowed)
    except (Exception, SystemExit) as error:
        is_told = isinstance(error, ValueError) and not is_from_own_file(error)
        return str(error) if is_told else f"{field}={name!r}: {type(error).__name__}: {error}"
    return ""


def not_a_model(name: str, given: str) -> str:
    """Return the message that a user's model is something else, such as a module of a library."""
    return (
        f"config.model={name!r} {given}; expected a function of (example, num_outputs) that returns a Model. docs/"
        "extending.md makes one of a module of flax.linen, Flax NNX or Equinox."
    )


@functools.cache  # a quarter of the time of planning a study
def fields(function: Callable) -> Mapping[str, inspect.Parameter]:
    """List the keyword-only parameters of a builder: the config fields that it reads."""
    parameters = inspect.signature(function).parameters
    return MappingProxyType({name: p for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY})


def is_from_own_file(error: BaseException) -> bool:
    """Whether an error was raised in a user's file; then the user needs its traceback."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__", "").startswith(_OWN) for frame, _ in frames)


def _load(path: Path):
    """Import a user's file under a unique name, once per process and content; it may import modules beside it."""
    module_name = f"{_OWN}{content_digest(f'{path}:')}_{path}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        sys.path.insert(0, str(path.parent))
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[module_name]
            raise
        finally:
            sys.path.pop(0)
    return sys.modules[module_name]
