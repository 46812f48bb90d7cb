"""The public names of `flatwide.measure` do not depend on which of its modules are imported."""

import importlib
import pkgutil
import types

from flatwide import measure


def test_no_module_takes_the_name_of_a_public_function():
    names = [module.name for module in pkgutil.walk_packages(measure.__path__, "flatwide.measure.")]
    # Importing a submodule sets the attribute of its name in its package.
    assert "flatwide.measure.spectrum.trace" in names
    modules = [importlib.import_module(name) for name in names]
    assert all(isinstance(module, types.ModuleType) for module in modules)
    hidden = [name for name in measure.__all__ if isinstance(getattr(measure, name), types.ModuleType)]
    assert not hidden
    assert all(callable(getattr(measure, name)) for name in measure.__all__)
