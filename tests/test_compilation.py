import logging
import os
import pathlib

import jax
import jax.numpy as jnp
import pytest

from jaxgan import compilation
from tests.runs import launch


@pytest.fixture
def no_cache():
    """As a new process begins that the environment tells nothing of a cache."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_are_kept_in_the_users_cache_by_default(no_cache, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compilation.keep()
    folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
    assert folder == compilation.default_folder()
    assert folder.is_relative_to(tmp_path / "jaxgan" / "compiled")


def test_none_keeps_nothing_and_the_environments_folder_comes_first(no_cache, tmp_path):
    compilation.keep("none")
    assert jax.config.jax_compilation_cache_dir is None
    jax.config.update("jax_compilation_cache_dir", "already/there")
    compilation.keep(str(tmp_path))
    assert jax.config.jax_compilation_cache_dir == "already/there"


def test_the_oldest_programs_go_when_there_are_too_many(monkeypatch, tmp_path):
    monkeypatch.setattr(compilation, "LARGEST", 25)
    for age, name in enumerate(("new", "old", "oldest")):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    compilation._forget_oldest(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["new", "old"]


def test_a_second_compilation_of_the_same_call_is_told(caplog):
    call = compilation.once(jax.jit(lambda x: x * 2), "the update")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            call(jnp.ones(3))
        assert not caplog.records
        call(jnp.ones(4))
    assert "the update was compiled again at its call number 4" in caplog.text


@pytest.mark.slow  # two starts with an empty cache
def test_the_same_command_again_compiles_nothing(tmp_path):
    folder = tmp_path / "compiled"
    environment = {"JAX_COMPILATION_CACHE_DIR": "", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    kept = []
    for run in ("first", "second"):
        command = ["--config=experiments/toy2d.py:tiny", f"--compiled={folder}", f"--workdir={tmp_path / run}"]
        launch(*command, env=environment)
        kept.append(sorted(file.name for file in folder.iterdir()))
    assert len(kept[0]) > 3
    assert kept[0] == kept[1]
