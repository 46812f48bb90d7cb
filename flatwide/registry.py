"""Models, data sets and other builders by name, or from a user's own file.

A registry is a plain dict from a name to `module:attribute`; a module is imported when one of its names is used. A
user's own builder is named `path/to/file.py:attribute`.
"""

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

_OWN = "flatwide_own_file_"
_MOST_SHOWN = 200  # characters of a value in a message


def unknown(field: str, name: object, names: Iterable[object]) -> str:
    """Write the message for an unknown name, with the nearest name and all known ones; it may be of any type."""
    names = sorted(set(map(str, names)))
    # A longer text is no misspelled name, and comparing takes time.
    asked = name.lower() if isinstance(name, str) and len(name) <= 200 else ""
    nearest = difflib.get_close_matches(asked, [item.lower() for item in names], n=1, cutoff=0.5)
    hint = f" Did you mean {next(k for k in names if k.lower() == nearest[0])!r}?" if nearest else ""
    return f"{field}={shown(name)} is not known.{hint} Known: {', '.join(names)}."


def shown(value: object) -> str:
    """Write a value as Python does, in one line and shortened where it is long, for a message."""
    try:
        text = " ".join(repr(value).split())
    except Exception as error:  # an integer of thousands of digits, or an object of the user's own
        return f"a {type(value).__name__} that cannot be written ({type(error).__name__})"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}... ({len(text):,} characters)"


def is_own_file(name: str) -> bool:
    """Whether a name points into a user's own file."""
    return ".py:" in name


def own_file(name: str) -> Path:
    """Return the file of a name `path/to/file.py:attribute`."""
    return Path(name.rpartition(":")[0]).expanduser().resolve()


def absolute(name: str) -> str:
    """Make the path in a name that points into a user's own file absolute; leave other names."""
    return f"{own_file(name)}:{name.rpartition(':')[2]}" if is_own_file(name) else name


def content_digest(name: str) -> str:
    """Digest a user's own file, so that an edited file makes another run; empty for a known name."""
    return hashlib.sha256(own_file(name).read_bytes()).hexdigest()[:16] if is_own_file(name) else ""


def find(field: str, name: str, builders: Mapping[str, str]) -> Callable:
    """Import the builder that a name stands for.

    Args:
      field: the config field, for the message, such as "config.model".
      name: a key of `known`, or `path/to/file.py:attribute`.
      builders: name -> "package.module:attribute".
    Raises: ValueError if the name is not known, or the user's file or attribute is not there.
    """
    if not is_own_file(name):
        if name not in builders:
            raise ValueError(unknown(field, name, builders) + " Your own: path/to/file.py:name.")
        module_name, _, attribute = builders[name].partition(":")
        return getattr(importlib.import_module(module_name), attribute)
    path, attribute = own_file(name), name.rpartition(":")[2]
    if not path.is_file():
        raise ValueError(f"{field}={name!r}: there is no file {str(path)!r}; give a path to a Python file that exists.")
    builder = getattr(_load(path), attribute, None)
    if not callable(builder):
        raise ValueError(f"{field}={name!r}: {path} defines no function or class {attribute!r}; define it there.")
    return builder


def fields(function: Callable) -> dict[str, inspect.Parameter]:
    """List the keyword-only parameters of a builder: the config fields that it reads."""
    parameters = inspect.signature(function).parameters
    return {name: p for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def is_from_own_file(error: BaseException) -> bool:
    """Whether an error was raised while a user's own file ran, so that the user needs its traceback."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__", "").startswith(_OWN) for frame, _ in frames)


def _load(path: Path):
    """Import a user's file, once a process for each content, under a name of its own; it may import its neighbours."""
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
