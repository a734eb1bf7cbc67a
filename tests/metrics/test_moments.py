"""Streaming means and covariances against NumPy's in float64: in batches, masked, and over four devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxgan.metrics import moments
from jaxgan.metrics.frechet import frechet_distance, mean_and_covariance

TOLERANCE = 1e-6  # of the largest entry; 2e-7 was measured


def features(n=200, size=6, offset=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, size)) @ rng.normal(size=(size, size)) + offset).astype(np.float32)


def assert_statistics(result, x):
    mean, cov = moments.finish(result)
    x = x.astype(np.float64)
    expected = np.cov(x, rowvar=False)
    assert mean.dtype == cov.dtype == np.float64
    np.testing.assert_allclose(mean, x.mean(0), rtol=0, atol=TOLERANCE * np.abs(x.mean(0)).max())
    np.testing.assert_allclose(cov, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
    np.testing.assert_array_equal(cov, cov.T)
    assert int(result.count) == len(x)


def stream(x, batch_size, update=moments.update):
    """Batches of one size; the last is filled up with NaN."""
    result = moments.empty(x.shape[1])
    for start in range(0, len(x), batch_size):
        batch = x[start : start + batch_size]
        mask = np.arange(batch_size) < len(batch)
        filled = np.full((batch_size, x.shape[1]), np.nan, np.float32)
        filled[mask] = batch
        result = update(result, jnp.asarray(filled), jnp.asarray(mask))
    return result


@pytest.mark.parametrize("batch_size", [1, 7, 64, 200, 512])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_batches_with_a_masked_tail(batch_size, offset):
    x = features(offset=offset)
    assert_statistics(stream(x, batch_size), x)


def test_unmasked_batches_of_different_sizes():
    x = features()
    result = moments.empty(6)
    for part in np.split(x, [3, 4, 90]):
        result = moments.update(result, jnp.asarray(part))
    assert_statistics(result, x)


def over_devices(update_of):
    mesh = Mesh(jax.devices(), ("batch",))
    everywhere, split = PartitionSpec(), PartitionSpec("batch")
    return jax.jit(
        jax.shard_map(update_of, mesh=mesh, in_specs=(everywhere, split, split), out_specs=everywhere, check_vma=True)
    )


@pytest.mark.parametrize("batch_size", [8, 64, 512])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_over_four_devices(batch_size, offset):
    """Of the last batch some devices hold nothing that counts."""
    assert len(jax.devices()) == 4
    x = features(n=203, offset=offset)
    update = over_devices(lambda m, batch, mask: moments.update(m, batch, mask, axis_name="batch"))
    assert_statistics(stream(x, batch_size, update), x)


def test_under_pmap():
    x = features(n=64)
    update = jax.pmap(lambda batch: moments.update(moments.empty(6), batch, axis_name="batch"), axis_name="batch")
    result = update(jnp.asarray(x.reshape(4, 16, 6)))
    for device in range(4):
        assert_statistics(jax.tree.map(lambda a, device=device: a[device], result), x)


def test_large_means_do_not_drown_the_covariance():
    """Sums of raw products would lose the third digit here."""
    x = features(n=4000, offset=300.0)
    mean, cov = moments.finish(stream(x, 250))
    expected = np.cov(x.astype(np.float64), rowvar=False)
    assert np.abs(cov - expected).max() < 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), rtol=1e-6)


def test_the_frechet_distance_of_streamed_statistics():
    real, fake = features(n=3000, size=32), features(n=3000, size=32, seed=1)
    expected = frechet_distance(*mean_and_covariance(real), *mean_and_covariance(fake))
    ours = frechet_distance(*moments.finish(stream(real, 128)), *moments.finish(stream(fake, 128)))
    assert ours == pytest.approx(expected, rel=1e-6)


def test_batches_that_count_nothing_change_nothing():
    x = features()
    before = stream(x, 64)
    nothing = moments.update(before, jnp.full((5, 6), jnp.nan), jnp.zeros(5, bool))
    for a, b in zip(before, nothing, strict=True):
        np.testing.assert_array_equal(a, b)
    empty = moments.update(moments.empty(6), jnp.full((5, 6), jnp.nan), jnp.zeros(5, bool))
    assert all(np.all(np.asarray(part) == 0) for part in empty)


def test_merging_is_seeing_both_in_either_order():
    x, y = features(n=30), features(n=50, seed=1, offset=4.0)
    a, b = stream(x, 30), stream(y, 50)
    both = np.concatenate([x, y])
    assert_statistics(moments.merge(a, b), both)
    assert_statistics(moments.merge(b, a), both)
    assert_statistics(moments.merge(a, moments.empty(6)), x)
    assert_statistics(moments.merge(moments.empty(6), b), y)


def test_types_and_shapes(strict):
    result = jax.jit(moments.update)(moments.empty(3), jnp.ones((4, 3), jnp.bfloat16), jnp.array([1, 1, 0, 1]))
    assert [(x.shape, x.dtype) for x in result] == [((), jnp.int32), ((3,), jnp.float32), ((3, 3), jnp.float32)]
    assert int(result.count) == 3


def test_products_are_asked_for_at_full_precision():
    jaxpr = str(jax.make_jaxpr(moments.update)(moments.empty(3), jnp.ones((4, 3))))
    assert "HIGHEST" in jaxpr and "DEFAULT" not in jaxpr


@pytest.mark.parametrize("count", [0, 1])
def test_there_is_no_covariance_of_less_than_two_examples(count):
    with pytest.raises(ValueError, match=f"there are {count}"):
        moments.finish(stream(features(n=count), 4))
    np.testing.assert_allclose(moments.finish(stream(features(n=2), 4))[0], features(n=2).mean(0), rtol=1e-6)


@pytest.mark.parametrize(("batch", "mask"), [((4, 5), None), ((4,), None), ((4, 6), (3,)), ((4, 6), (4, 1))])
def test_what_does_not_fit_is_refused(batch, mask):
    with pytest.raises(ValueError, match="is not"):
        moments.update(moments.empty(6), jnp.ones(batch), None if mask is None else jnp.ones(mask, bool))
