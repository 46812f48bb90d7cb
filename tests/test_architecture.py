"""What is imported when: import-linter (`make lint`) checks who may import whom, not at what moment."""

import json
import subprocess
import sys

import pytest

# Each costs a fraction of a second or more, and most runs use few of them: they are imported where they are used.
HEAVY = [
    "ale_py",
    "altair",
    "cv2",
    "datasets",
    "gymnax",
    "pandas",
    "PIL",
    "rdkit",
    "simplejpeg",
    "sklearn",
    "tensorboardX",
    "torch",
]


def loaded_by(statements: str) -> set[str]:
    """Run statements in a new process and tell which top-level modules it has loaded then."""
    script = f"{statements}\nimport json, sys\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("room", ["cli", "config", "registry"])
def test_jax_is_not_started_before_the_flags_are_read(room):
    # XLA's number of threads comes from the config, and can only be set before JAX is imported.
    assert "jax" not in loaded_by(f"import flatwide.{room}")


def test_no_room_imports_heavy_libraries_before_it_uses_them():
    everything = "import pkgutil, importlib, flatwide\n" + (
        "for found in pkgutil.walk_packages(flatwide.__path__, 'flatwide.'): importlib.import_module(found.name)"
    )
    loaded = loaded_by(everything)
    assert "flatwide" in loaded
    assert loaded.isdisjoint(HEAVY), f"imported at module level: {sorted(loaded & set(HEAVY))}"
