"""What the pipe of StyleGAN2-ADA does, piece by piece, against NumPy and SciPy with the same draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.augment import color, filters, geometry
from tests.augment import oracles

RNG = np.random.default_rng(7)
BLIT, WARP = jax.jit(geometry.blit), jax.jit(geometry.warp)


def pictures(n, height, width, channels):
    return RNG.uniform(-1, 1, (n, height, width, channels)).astype(np.float32)


def compare(function, oracle, x, *draws, atol=2e-5):
    expected = [oracle(a, *(np.asarray(d[i]) for d in draws)) for i, a in enumerate(x)]
    np.testing.assert_allclose(jax.jit(function)(x, *draws), np.stack(expected), atol=atol)


@pytest.mark.parametrize("shape", [(6, 6, 3), (7, 7, 1), (6, 4, 2), (4, 6, 1)], ids=str)
def test_whole_pixel_moves_are_those_of_a_large_reflected_canvas(shape):
    choices = [(m, t, (dx, dy)) for m in (False, True) for t in range(4) for dx, dy in ((0, 0), (2, -1), (-5, 9))]
    mirrored, turns, pixels = (np.array(a) for a in zip(*choices, strict=True))
    compare(geometry.blit, oracles.blit, pictures(len(choices), *shape), mirrored, turns, pixels, atol=0)


def test_a_picture_of_one_pixel_reflects_itself():
    x = jnp.full((1, 1, 1, 3), 0.3)
    moved = BLIT(x, jnp.array([True]), jnp.array([1]), jnp.array([[3, -2]]))
    np.testing.assert_array_equal(moved, x)
    np.testing.assert_allclose(WARP(x, jnp.asarray(maps(1))), x, rtol=1e-5)


def maps(n):
    linear = np.eye(2) + 0.4 * RNG.normal(size=(n, 2, 2))
    return np.concatenate(
        [np.concatenate([linear, 2 * RNG.normal(size=(n, 2, 1))], 2), np.tile([[[0, 0, 1.0]]], (n, 1, 1))], 1
    ).astype(np.float32)


@pytest.mark.parametrize("shape", [(8, 8, 3), (9, 6, 1)], ids=str)
def test_a_warp_is_a_filtered_lookup_on_a_large_reflected_canvas(shape):
    compare(geometry.warp, lambda x, m: oracles.warp(x, m, filters.SYM6), pictures(6, *shape), maps(6))


@pytest.mark.parametrize("size", [28, 32])
def test_the_identity_warp_gives_the_picture_back(size):
    x = pictures(2, size, size, 1)
    np.testing.assert_allclose(WARP(x, np.stack([np.eye(3, dtype=np.float32)] * 2)), x, atol=5e-6)


def test_a_warp_puts_a_ramp_where_the_map_says():
    """Low-pass filters that are off by a part of a pixel would show as a constant."""
    y, x = np.mgrid[:32, :32] - 15.5
    inverse = jax.jit(geometry.warp_inverse)(1.1, 0.7, 0.95, -0.2, jnp.array([0.3, -1.4]))
    ramp = np.stack([x, y], -1).astype(np.float32)[None]
    expected = np.stack([inverse[i, 0] * x + inverse[i, 1] * y + inverse[i, 2] for i in range(2)], -1)
    out = WARP(ramp, inverse[None])[0]
    np.testing.assert_allclose(out[13:19, 13:19], expected[13:19, 13:19], atol=2e-4)


def test_the_inverse_of_whole_pixel_moves_is_theirs():
    y, x = np.mgrid[:32, :32] - 15.5
    ramp = jnp.asarray(np.stack([x, y], -1).astype(np.float32))[None]
    for mirrored, turns in [(False, 1), (True, 0), (True, 3), (False, 2)]:
        draws = jnp.asarray(mirrored), jnp.asarray(turns), jnp.asarray([2, -1])
        copied = BLIT(ramp, *(d[None] for d in draws))
        warped = WARP(ramp, jax.jit(geometry.blit_inverse)(*draws)[None])
        np.testing.assert_allclose(warped[0, 13:19, 13:19], copied[0, 13:19, 13:19], atol=2e-4)


def test_sym6_is_the_least_asymmetric_filter_of_six_vanishing_moments():
    found = [oracles.daubechies(6, pick) for pick in range(8)]
    best = min(found, key=oracles.asymmetry)
    either = [np.abs(filters.SYM6 - taps).max() for taps in (best, best[::-1])]
    assert min(either) < 1e-7
    np.testing.assert_allclose(np.sort(filters.SYM2), np.sort(oracles.daubechies(2, 0)), atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 5, 32])
def test_halving_undoes_doubling(size):
    doubled, samples = filters.doubling(size), np.arange(2 * size + 10) - filters.LEAD
    seen = doubled[samples % (len(doubled) - 1)]
    np.testing.assert_allclose(filters.halving(size) @ seen, np.eye(size), atol=1e-6)
    np.testing.assert_array_equal(doubled[0], doubled[-1])


@pytest.mark.parametrize("shape", [(28, 28, 1), (6, 9, 3)], ids=str)
def test_amplified_bands_are_those_of_the_frequency_responses(shape):
    gains = RNG.uniform(0.3, 3, (4, 4)).astype(np.float32)
    compare(filters.amplify, lambda x, g: oracles.amplify(x, g, filters.SYM2), pictures(4, *shape), gains)


def test_the_bands_add_up_to_nothing_done_and_are_octaves():
    bands = filters.band_filters()
    assert bands.shape == (4, 43)
    np.testing.assert_allclose(bands.sum(0), np.eye(43)[21], atol=1e-12)
    response = np.abs(np.fft.fft(bands, 512))[:, :257]
    for band, (low, high) in enumerate([(0, 32), (32, 64), (64, 128), (128, 257)]):
        assert (response[:, (low + high) // 2].argmax()) == band


def test_gains_normalise_the_power_band_by_band():
    amplitudes = np.array([[1.0, 1, 1, 1], [2, 1, 1, 1], [0.4, 1.5, 3, 0.7]], np.float32)
    gains = jax.jit(jax.vmap(filters.band_gains))(amplitudes)
    np.testing.assert_allclose(gains, [oracles.band_gains(a) for a in amplitudes], rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_are_the_product_of_five_matrices(channels):
    n = 6
    normal = RNG.normal(size=(4, n)).astype(np.float32)
    draws = (0.2 * normal[0], np.exp2(normal[1]), np.arange(n) % 2 == 0, 2 * normal[2], np.exp2(normal[3]))
    matrix = np.asarray(jax.jit(color.color_matrix)(*draws))
    expected = np.stack([oracles.color_matrix(*(d[i] for d in draws)) for i in range(n)])
    np.testing.assert_allclose(matrix, expected, atol=3e-6)
    compare(color.recolor, oracles.recolor, pictures(n, 5, 4, channels), matrix)


def test_a_grey_picture_is_recoloured_without_hue_and_saturation():
    """What the pipe may leave out of grey pictures changes nothing of their luma."""
    x, draws = pictures(1, 4, 4, 1), (np.float32([a]) for a in (0.1, 1.7, 1, 1.0, 2.0))
    out = jax.jit(lambda x, *draws: color.recolor(x, color.color_matrix(*draws)))(x, *draws)
    np.testing.assert_allclose(out, -1.7 * (x + 0.1), atol=1e-5)
