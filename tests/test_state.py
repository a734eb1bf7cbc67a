"""The fingerprint of a state sees what changes a state, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan.parallel import Parallel
from jaxgan.state import TrainState, count_parameters, fingerprint

DTYPES = ["float32", "float16", "bfloat16", "int8", "uint8", "int32", "uint32", "bool"]
_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32}


def example(dtype="float32"):
    """A leaf of twelve numbers, no two the same where the type has so many."""
    return jnp.asarray(np.arange(12).reshape(3, 4) % (2 if dtype == "bool" else 12)).astype(dtype)


def tree():
    return {
        "w": example(),
        "half": example("bfloat16"),
        "count": jnp.int32(7),
        "mask": example("bool"),
        "key": jax.random.key(3),
        "none": None,
        "empty": jnp.zeros((0, 4)),
    }


def flip_bit(x, entry, bit):
    x = np.asarray(x).copy()
    bits = x.reshape(-1).view(_BITS[x.dtype.itemsize])
    bits[entry] ^= 1 << bit
    return jnp.asarray(x)


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != "bool"])
def test_every_flipped_bit_shows(dtype):
    x = example(dtype)
    before = int(fingerprint(x))
    for entry in (0, 1, 11):
        for bit in range(8 * x.dtype.itemsize):
            assert int(fingerprint(flip_bit(x, entry, bit))) != before, (entry, bit)


def test_a_flipped_bool_shows():
    x = example("bool")
    assert int(fingerprint(x)) != int(fingerprint(x.at[1, 2].set(~x[1, 2])))


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_exchanged_entries_show(dtype):
    x = example(dtype).ravel()
    assert int(fingerprint(x)) != int(fingerprint(x.at[jnp.array([2, 7])].set(x[jnp.array([7, 2])])))


def test_exchanged_signs_show():
    """The sign is the highest bit: a weight that wraps it away would call a negated network the same network."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=1000), jnp.float32)
    assert int(fingerprint(x)) != int(fingerprint(-x))
    assert int(fingerprint(jnp.array([1.0, -1.0]))) != int(fingerprint(jnp.array([-1.0, 1.0])))


def test_exchanged_powers_of_two_show_at_any_distance():
    """1.0 and 2.0 differ by 2^23, which a weight divisible by 2^9 would wrap away."""
    for distance in (1, 2, 64, 256, 512, 1024):
        x = jnp.zeros(1100)
        a, b = x.at[0].set(1.0).at[distance].set(2.0), x.at[0].set(2.0).at[distance].set(1.0)
        assert int(fingerprint(a)) != int(fingerprint(b)), distance


def test_two_exchanged_leaves_show():
    a, b = example(), example() + 1
    assert int(fingerprint({"a": a, "b": b})) != int(fingerprint({"a": b, "b": a}))


def test_another_key_shows():
    assert int(fingerprint(tree())) != int(fingerprint({**tree(), "key": jax.random.key(4)}))


def test_equal_trees_have_equal_fingerprints():
    assert int(fingerprint(tree())) == int(fingerprint(tree()))
    assert fingerprint(tree()).dtype == jnp.uint32
    # Bits, not values: -0.0 equals 0.0, and a NaN not even itself.
    assert int(fingerprint(jnp.zeros(3))) != int(fingerprint(-jnp.zeros(3)))
    assert int(fingerprint(jnp.full(3, jnp.nan))) == int(fingerprint(jnp.full(3, jnp.nan)))


@pytest.mark.parametrize("devices", [1, 4])
def test_the_number_of_devices_does_not_show(devices):
    replicated = Parallel("pmap", jax.devices()[:devices]).replicate(tree())
    assert int(fingerprint(replicated)) == int(fingerprint(tree()))


def test_how_an_array_is_split_does_not_show():
    x = jnp.arange(16.0).reshape(4, 4)
    assert int(fingerprint(Parallel("pmap", jax.devices()[:4]).split(x))) == int(fingerprint(x))


def test_an_array_is_not_gathered_for_it():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 8)), jnp.float32)
    cut = jax.device_put(x, NamedSharding(Mesh(jax.devices()[:4], ("d",)), PartitionSpec(None, None, "d")))
    assert int(fingerprint(cut)) == int(fingerprint(x))
    text = fingerprint.lower(cut).compile().as_text()
    assert "all-reduce" in text and "all-gather" not in text and "all-to-all" not in text


def test_count_parameters():
    shapes = jax.eval_shape(lambda: {"a": jnp.zeros((3, 4)), "b": [jnp.zeros(5), jnp.zeros(())]})
    assert count_parameters(shapes) == 18
    assert count_parameters({"a": np.zeros((2, 2)), "b": {}}) == 4


def test_a_state_is_frozen_and_can_be_stacked():
    fields = {name: jnp.float32(i) for i, name in enumerate(TrainState.__dataclass_fields__)}
    state = TrainState(**{**fields, "key": jax.random.key(0)})
    with pytest.raises(AttributeError):
        state.step = 1
    assert int(state.replace(step=jnp.int32(5)).step) == 5
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), state, state)
    assert {leaf.shape for leaf in jax.tree.leaves(stacked)} == {(2,)}
