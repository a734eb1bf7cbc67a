"""Checkpoints: what was saved comes back bit for bit, the right ones are kept, and damage is found."""

import os
import shutil

import jax
import jax.numpy as jnp
import pytest
from absl import logging

from jaxgan.checkpoint import Checkpoints
from jaxgan.errors import CheckpointError
from jaxgan.parallel import Parallel
from tests.small import assert_equal, mlp_game, new_state, sgd


@pytest.fixture(scope="module")
def state():
    return Parallel("jit").replicate(new_state(mlp_game(), sgd()))


def like(state, parallel=None):
    return (parallel or Parallel("jit")).abstract(jax.eval_shape(lambda: state))


def at(state, step):
    return state.replace(step=jnp.int32(step), params_g=jax.tree.map(lambda x: x + step, state.params_g))


def save_all(directory, state, distances, keep=2):
    checkpoints = Checkpoints(directory, keep)
    for step, distance in distances:
        checkpoints.save(at(state, step), {"step": step, "pi": 3.141592653589793}, distance)
    checkpoints.wait()
    return checkpoints


def test_bit_for_bit(tmp_path, state):
    checkpoints = save_all(tmp_path / "c", state, [(3, None)])
    restored, host = checkpoints.restore_newest(like(state))
    assert_equal(restored, at(state, 3))
    assert host == {"step": 3, "pi": 3.141592653589793}
    assert jnp.issubdtype(restored.key.dtype, jax.dtypes.prng_key)


def test_saved_on_one_device_restored_on_four(tmp_path, state):
    checkpoints = save_all(tmp_path / "c", state, [(3, None)])
    restored, _ = checkpoints.restore_newest(like(state, Parallel("pmap", jax.devices()[:4])))
    assert len(restored.step.sharding.device_set) == 4
    assert_equal(restored, at(state, 3))


def test_what_every_device_has_is_written_from_one_of_them(tmp_path, state):
    four = Parallel("pmap", jax.devices()[:4]).replicate(state)
    checkpoints = save_all(tmp_path / "c", four, [(3, None)])
    assert_equal(checkpoints.restore_newest(like(state))[0], at(state, 3))
    layout = (tmp_path / "c" / "3" / "state" / "_sharding").read_text()
    assert "SingleDeviceSharding" in layout and "NamedSharding" not in layout


@pytest.mark.parametrize("devices", [1, 4])
def test_the_state_may_be_donated_while_it_is_written(tmp_path, state, devices):
    checkpoints = Checkpoints(tmp_path / "c")
    original = jax.tree.map(jnp.copy, state)
    state = Parallel("pmap", jax.devices()[:devices]).replicate(state)
    overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x * 0 if x.dtype == jnp.float32 else x, s), donate_argnums=0)
    given = jax.tree.map(jnp.copy, state)
    checkpoints.save(given, {})
    overwrite(given)
    checkpoints.wait()
    assert_equal(checkpoints.restore(0, like(state))[0], original)


def test_newest_and_best_are_kept(tmp_path, state):
    distances = [(1, 0.5), (2, 0.1), (3, 0.7), (4, None), (5, 0.8)]
    checkpoints = save_all(tmp_path / "c", state, distances)
    assert checkpoints.steps() == [2, 4, 5] and checkpoints.best_step() == 2
    again = Checkpoints(tmp_path / "c", keep=2)  # another process knows the best too
    assert again.best_step() == 2
    again.save(at(state, 6), {}, 0.05)
    again.save(at(state, 7), {}, 0.9)
    again.wait()
    assert again.steps() == [6, 7] and again.best_step() == 6


def test_nothing_there(tmp_path, state):
    checkpoints = Checkpoints(tmp_path / "c")
    assert checkpoints.restore_newest(like(state)) is None and checkpoints.best_step() is None


def test_an_unfinished_save_is_cleared_away(tmp_path, state):
    save_all(tmp_path / "c", state, [(1, None)]).close()
    shutil.copytree(tmp_path / "c" / "1", tmp_path / "c" / "2.orbax-checkpoint-tmp")
    checkpoints = Checkpoints(tmp_path / "c")
    assert checkpoints.steps() == [1]
    assert checkpoints.restore_newest(like(state))[1]["step"] == 1
    checkpoints.save(at(state, 2), {}, None)
    checkpoints.wait()
    assert checkpoints.steps() == [1, 2]


def array_files(directory):
    """Those that may hold arrays: of the process that wrote them, or merged."""
    return [file for file in directory.rglob("d/*") if file.is_file()]


DAMAGE = {
    "flipped bits": lambda d: [flip(file) for file in array_files(d)],
    "truncated array files": lambda d: [os.truncate(file, file.stat().st_size // 2) for file in array_files(d)],
    "an empty manifest": lambda d: os.truncate(d / "state" / "manifest.ocdbt", 0),
    "no state": lambda d: shutil.rmtree(d / "state"),
    "no host part": lambda d: shutil.rmtree(d / "host"),
    "a flipped bit in the host part": lambda d: flip(d / "host" / "metadata"),
    "a truncated host part": lambda d: os.truncate(d / "host" / "metadata", 20),
    "no content at all": lambda d: [shutil.rmtree(x) if x.is_dir() else x.unlink() for x in d.iterdir()],
}


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path, state, damage, caplog):
    save_all(tmp_path / "c", state, [(1, 0.2), (2, 0.1)]).close()
    damage(tmp_path / "c" / "2")
    logging.use_python_logging(quiet=True)
    checkpoints = Checkpoints(tmp_path / "c")
    restored, host = checkpoints.restore_newest(like(state))
    assert_equal(restored, at(state, 1))
    assert host["step"] == 1
    assert "checkpoint 2" in caplog.text and "step 1" in caplog.text
    assert checkpoints.steps() == [1]
    checkpoints.save(at(state, 2), {}, 0.3)  # the same step will come again
    checkpoints.wait()
    assert checkpoints.steps() == [1, 2]
    assert_equal(checkpoints.restore(2, like(state))[0], at(state, 2))


def test_a_reader_leaves_damaged_checkpoints_alone(tmp_path, state):
    save_all(tmp_path / "c", state, [(1, None), (2, None)]).close()
    DAMAGE["flipped bits"](tmp_path / "c" / "2")
    assert Checkpoints(tmp_path / "c", read_only=True).restore_newest(like(state))[1]["step"] == 1
    assert sorted(os.listdir(tmp_path / "c")) == ["1", "2"]


def test_all_damaged_is_an_error_that_moves_nothing(tmp_path, state):
    save_all(tmp_path / "c", state, [(1, None), (2, None)]).close()
    for step in "12":
        DAMAGE["flipped bits"](tmp_path / "c" / step)
    with pytest.raises(CheckpointError, match=r"none of the checkpoints \[2, 1\]"):
        Checkpoints(tmp_path / "c").restore_newest(like(state))
    assert sorted(os.listdir(tmp_path / "c")) == ["1", "2"]
