"""The layouts of a step: what is copied, what is split, and that all of them compute the same."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxgan.errors import ConfigError
from jaxgan.parallel import AXIS, MODES, Parallel
from jaxgan.update import repeat


def four():
    return Parallel("pmap", jax.devices()[:4])


def test_an_unknown_mode_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"config\.parallel 'pjit'; known: pmap, shard_map, jit"):
        Parallel("pjit")


def test_the_devices():
    assert Parallel().devices == jax.devices() and Parallel().mode == "pmap"
    assert Parallel("jit").devices == jax.local_devices()[:1]
    assert Parallel("jit", jax.devices()[2:4]).devices == jax.devices()[2:3]
    assert four().describe() == "pmap over 4 device(s): cpu (cpu)"
    assert Parallel("shard_map").describe() == "shard_map over 4 device(s): cpu (cpu)"


@pytest.mark.parametrize(
    "size, below, above", [(6, 4, 8), (7, 4, 8), (1, 4, 8), (3, 4, 8), (63, 60, 64)]
)
def test_a_batch_that_does_not_divide_names_the_nearest_that_do(size, below, above):
    with pytest.raises(ConfigError) as error:
        four().check_batch_size(size)
    assert [int(n) for n in re.findall(r"-?\d+", str(error.value))] == [size, 4, below, above]


@pytest.mark.parametrize("size", [0, -4])
def test_a_batch_of_nothing(size):
    with pytest.raises(ConfigError, match=f"batch_size {size} must be at least 1"):
        four().check_batch_size(size)


def test_a_batch_that_divides_is_fine():
    for size in (4, 8, 400):
        four().check_batch_size(size)
    for size in (1, 3, 7):
        Parallel("jit").check_batch_size(size)
    with pytest.raises(ConfigError, match="batch_size 0"):
        Parallel("jit").check_batch_size(0)


@pytest.mark.parametrize("mode", MODES)
def test_a_process_alone_brings_the_whole_batch(mode):
    parallel, batch = Parallel(mode, jax.devices()[:4]), {"x": np.arange(24).reshape(8, 3)}
    np.testing.assert_array_equal(parallel.own_rows(8), np.arange(8))
    brought, split = parallel.split_own(batch, 8)["x"], parallel.split(batch)["x"]
    assert brought.sharding == split.sharding
    np.testing.assert_array_equal(brought, split)


def test_replicate_puts_a_copy_everywhere():
    tree = four().replicate({"a": np.arange(6.0).reshape(2, 3), "key": jax.random.key(5)})
    assert tree["a"].shape == (2, 3)
    shards = tree["a"].addressable_shards
    assert {shard.device for shard in shards} == set(jax.devices()[:4])
    for shard in shards:
        np.testing.assert_array_equal(shard.data, np.arange(6.0).reshape(2, 3))
    assert jnp.array_equal(jax.random.key_data(tree["key"]), jax.random.key_data(jax.random.key(5)))


def test_split_gives_each_device_its_contiguous_part():
    x = four().split({"x": np.arange(24).reshape(8, 3)})["x"]
    assert x.shape == (4, 2, 3)
    for i, shard in enumerate(sorted(x.addressable_shards, key=lambda shard: shard.device.id)):
        np.testing.assert_array_equal(np.asarray(shard.data)[0], np.arange(24).reshape(8, 3)[2 * i : 2 * i + 2])
    mapped = Parallel("shard_map", jax.devices()[:4]).split({"x": np.arange(24).reshape(8, 3)})["x"]
    assert mapped.shape == (8, 3)
    for i, shard in enumerate(sorted(mapped.addressable_shards, key=lambda shard: shard.device.id)):
        np.testing.assert_array_equal(np.asarray(shard.data), np.arange(24).reshape(8, 3)[2 * i : 2 * i + 2])
    alone = Parallel("jit").split({"x": np.arange(24).reshape(8, 3)})["x"]
    assert alone.shape == (8, 3) and alone.devices() == {jax.local_devices()[0]}


@pytest.mark.parametrize("parallel", [Parallel(mode) for mode in MODES], ids=MODES)
def test_abstract_is_what_replicate_makes(parallel):
    tree = {"a": jnp.zeros((2, 3)), "key": jax.random.key(0), "n": jnp.int8(3)}
    shapes, real = parallel.abstract(jax.eval_shape(lambda: tree)), parallel.replicate(tree)
    for name, leaf in real.items():
        assert (shapes[name].shape, shapes[name].dtype) == (leaf.shape, leaf.dtype)
        assert shapes[name].sharding == leaf.sharding


@pytest.mark.parametrize("parallel", [Parallel("jit"), Parallel("pmap")], ids=["jit", "pmap"])
def test_abstract_split_is_what_split_makes(parallel):
    batch = {"x": jnp.zeros((8, 3), jnp.int8)}
    shape, real = parallel.abstract_split(jax.eval_shape(lambda: batch))["x"], parallel.split(batch)["x"]
    assert (shape.shape, shape.dtype) == (real.shape, real.dtype)
    assert shape.sharding.is_equivalent_to(real.sharding, real.ndim)


@pytest.mark.parametrize("mode", ["pmap", "jit"])
def test_a_state_is_cut_under_shard_map_alone(mode):
    with pytest.raises(ConfigError, match=rf"config\.shard_state .* '{mode}'; set --config\.parallel=shard_map"):
        Parallel(mode, cut=("opt",))


@struct.dataclass
class State:
    w: jax.Array
    opt: dict


def test_a_cut_state_is_told_from_what_is_whole():
    parallel = Parallel("shard_map", jax.devices()[:4], cut=("opt",))
    assert parallel.describe() == "shard_map over 4 device(s), opt cut: cpu (cpu)"
    state = parallel.create(lambda: State(jnp.zeros((64, 64)), {"mu": jnp.ones((4, 1024)), "count": jnp.int32(0)}))
    shapes = parallel.abstract_state(jax.eval_shape(lambda: State(jnp.zeros((64, 64)), dict(state.opt))))
    assert jax.tree.map(lambda x: x.sharding, shapes) == jax.tree.map(lambda x: x.sharding, state)
    assert [x.data.shape for x in state.opt["mu"].addressable_shards] == [(4, 256)] * 4
    assert state.w.is_fully_replicated and state.opt["count"].is_fully_replicated

    def step(state, batch, axis_name=None, is_cut=False):
        assert is_cut and state.w.shape == (64, 64) and state.opt["mu"].shape == (4, 256)
        place = jax.lax.axis_index(axis_name)
        return state.replace(opt={**state.opt, "mu": state.opt["mu"] * place}), {}

    new, _ = parallel.compile(step)(state, parallel.split(jnp.arange(4)))
    np.testing.assert_array_equal(new.opt["mu"], np.repeat(np.arange(4.0), 256)[None].repeat(4, axis=0))


def test_one_device_holds_all_of_a_cut_state():
    def step(state, batch, axis_name=None, is_cut=False):
        assert axis_name is None and is_cut and state.opt["mu"].shape == (64, 64)
        return state, {"sum": jnp.sum(state.opt["mu"])}

    parallel = Parallel("shard_map", jax.devices()[:1], cut=("opt",))
    state = parallel.create(lambda: State(jnp.zeros(3), {"mu": jnp.ones((64, 64))}))
    _, metrics = parallel.compile(step)(state, parallel.split(jnp.arange(4)))
    assert float(metrics["sum"]) == 4096


def descend(state, batch, scale, axis_name=None):
    """A step of linear regression: a gradient averaged over the global batch."""
    loss, grad = jax.value_and_grad(lambda w: jnp.mean((batch["x"] @ w - batch["y"]) ** 2))(state["w"])
    if axis_name is not None:
        loss, grad = jax.lax.pmean((loss, grad), axis_name)
    return {"w": state["w"] - scale * grad, "n": state["n"] + 1}, {"loss": loss}


def by_hand(steps):
    data, w = batch(), np.zeros(3)
    for _ in range(steps):
        loss = np.mean((data["x"] @ w - data["y"]) ** 2)
        w = w - 0.1 * 2 / 8 * data["x"].T @ (data["x"] @ w - data["y"])
    return w, loss


def batch():
    generator = np.random.default_rng(0)
    return {"x": generator.normal(size=(8, 3)), "y": generator.normal(size=8)}


@pytest.mark.parametrize("several", [1, 3])
@pytest.mark.parametrize(
    "mode, devices", [("jit", 1), ("pmap", 1), ("pmap", 2), ("pmap", 4), ("shard_map", 1), ("shard_map", 4)]
)
def test_every_layout_computes_the_step_by_hand(mode, devices, several):
    parallel = Parallel(mode, jax.devices()[:devices])
    step = parallel.compile(repeat(descend, several) if several > 1 else descend, shared=1)
    state = parallel.replicate({"w": jnp.zeros(3), "n": jnp.int32(0)})
    data, scale = parallel.split(jax.tree.map(jnp.float32, batch())), parallel.replicate(jnp.float32(0.1))
    for _ in range(6 // several):
        given = state
        state, metrics = step(state, data, scale)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given))
    w, loss = by_hand(6)
    assert int(state["n"]) == 6 and state["w"].shape == (3,)
    np.testing.assert_allclose(state["w"], w, rtol=1e-5)
    assert metrics["loss"].shape == (() if several == 1 else (several,))
    np.testing.assert_allclose(np.ravel(metrics["loss"])[-1], loss, rtol=1e-5)


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_a_step_can_tell_its_place(mode):
    """The axis has the name that the module gives it, and the parts are in the devices' order."""

    def step(state, index, axis_name=None):
        assert axis_name == AXIS
        return state, {"places": jax.lax.all_gather(index, axis_name, tiled=True)}

    parallel = Parallel(mode, jax.devices()[:4])
    _, metrics = parallel.compile(step)(parallel.replicate(jnp.zeros(())), parallel.split(jnp.arange(8)))
    assert metrics["places"].tolist() == list(range(8))
