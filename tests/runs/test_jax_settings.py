"""Compiled programs are kept where that is possible, and half a one is not kept."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax._src import compilation_cache

from flatwide.runs import jax_settings


def test_an_entry_that_is_torn_is_removed_without_a_word():
    folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
    folder.mkdir(exist_ok=True)
    jax_settings.start(jax_settings.available_threads())
    torn = folder / "jit_torn-0123-cache"
    torn.write_bytes(b"x\x9c half of a program")
    other = folder / "jit_other-0123-cache"
    other.write_bytes(b"another's")
    device = jax.devices()[0]
    assert compilation_cache.get_executable_and_time(torn.name[:-6], None, device.client, None) == (None, None)
    assert not torn.exists()
    assert other.exists()
    other.unlink()


def test_without_a_home_nothing_is_kept_and_nothing_fails(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/dev/null")
    assert jax_settings._cache_folder() is None
    monkeypatch.setenv("HOME", str(tmp_path))
    assert jax_settings._cache_folder() == tmp_path / ".cache" / "flatwide" / "compiled"

    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "home", unknown)
    assert jax_settings._cache_folder() is None


def test_a_folder_that_others_can_enter_is_not_used(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = jax_settings._cache_folder()
    assert folder == tmp_path / "flatwide" / "compiled"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)  # as an earlier version left it
    assert jax_settings._cache_folder() == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    said = f"{folder} is not used, so programs are compiled again: expected a folder of this user in which nobody else"
    folder.chmod(0o777)
    assert jax_settings._cache_folder() is None
    assert said in capsys.readouterr().err
    folder.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert jax_settings._cache_folder() is None
    assert said in capsys.readouterr().err


PROGRAM = """
import jax, sys
from flatwide.runs import jax_settings
jax_settings.start(1)
print(jax.jit(lambda x: x * float(sys.argv[1]))(2.0))
"""


def test_an_entry_under_the_name_of_another_is_compiled_anew(tmp_path):
    def compiled(factor):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")}
        environment |= {"XDG_CACHE_HOME": str(tmp_path), "NPROC": "1"}
        command = [sys.executable, "-c", PROGRAM, factor]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    def entries():
        return set((tmp_path / "flatwide" / "compiled").glob("jit*-cache"))

    assert compiled("3") == "6.0\n"
    first = entries()
    assert compiled("4") == "8.0\n"
    names = {path: next(iter(first)) for path in entries() - first}
    assert len(first) == len(names) == 1
    for path, other in names.items():
        whole = path.read_bytes()
        path.write_bytes(other.read_bytes())
        assert compiled("4") == "8.0\n"
        assert path.read_bytes() == whole  # written anew


def test_compiling_is_counted_once_however_deep_the_traces_are():
    import time

    @jax.jit
    def inner(x):
        time.sleep(0.2)  # while it is traced
        return x + 1

    before, began = jax_settings.compile_seconds(), time.monotonic()
    jax.jit(lambda x: inner(x) * 2)(jnp.ones(3)).block_until_ready()
    took = time.monotonic() - began
    assert 0.2 <= jax_settings.compile_seconds() - before <= took
    before = jax_settings.compile_seconds()
    assert jax_settings.compile_seconds() - before == pytest.approx(0)
