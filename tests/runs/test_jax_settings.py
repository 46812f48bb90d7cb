"""Compiled programs are kept where that is possible, and half a one is not kept."""

import pathlib

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
