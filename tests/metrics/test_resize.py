"""The three conventions against the programs that define them: goldens of torch-fidelity and PyTorch, Pillow live.

The goldens are described in inception_goldens.py.
"""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgan.metrics.networks.inception import SIZE, scale_tf
from jaxgan.metrics.resize import CONVENTIONS, resize_clean, resize_tf1, resize_torch
from tests.metrics.inception_goldens import PATH, SIDES, pictures, places

GOLDENS = np.load(PATH)
CALLS = {name: jax.jit(function, static_argnums=1) for name, function in CONVENTIONS.items()}


def resized(name, x, size=SIZE):
    return np.asarray(CALLS[name](x, size))


def pillow(x, size):
    """[H, W, C] by Pillow, each channel in float, cut to [0, 255]."""
    channels = [Image.fromarray(x[..., c].astype(np.float32)) for c in range(x.shape[-1])]
    done = [np.asarray(channel.resize((size, size), Image.Resampling.BICUBIC)) for channel in channels]
    return np.clip(np.stack(done, -1), 0, 255)


@pytest.mark.parametrize("side", SIDES)
def test_tf1_is_equal_to_torch_fidelitys_to_the_last_bit_when_compiled(side):
    out = resized("tf1", pictures(2, side))
    assert out.dtype == np.float32
    assert hashlib.sha256(out.tobytes()).hexdigest() == str(GOLDENS[f"resize/tf1/{side}"])


def test_tf1_stays_so_within_a_larger_program():
    x = pictures(2)
    alone = resized("tf1", x)
    scaled = jax.jit(lambda x: scale_tf(resize_tf1(x, SIZE)))(x)
    assert np.array_equal(scaled, (alone - np.float32(128)) / np.float32(128))


def test_tf1_against_its_definition_pixel_by_pixel():
    """Another way to the same bits, on a picture that is not square and has one channel."""
    x = np.random.RandomState(0).randint(0, 256, (1, 3, 5, 1)).astype(np.uint8)
    size, f = 7, np.float32

    def between(a, b, place):
        return f(a) + (f(b) - f(a)) * (place - f(int(place)))

    def across(row, place):
        left = int(place)
        return between(x[0, row, left, 0], x[0, row, min(left + 1, 4), 0], place)

    expected = np.empty((size, size), f)
    for i in range(size):
        for j in range(size):
            y, z = f(i) * f(3 / size), f(j) * f(5 / size)
            expected[i, j] = between(across(int(y), z), across(min(int(y) + 1, 2), z), y)
    assert np.array_equal(resized("tf1", x, size)[0, :, :, 0], expected)


@pytest.mark.parametrize("side", SIDES)
def test_torch_is_pytorchs_interpolate(side):
    out = resized("torch", pictures(2, side)).ravel()
    # PyTorch weighs both neighbours, so a last bit differs here and there; 1e-4 of the range is asked for.
    np.testing.assert_allclose(out[places(out.size)], GOLDENS[f"resize/torch/{side}"], atol=1e-3, rtol=0)


@pytest.mark.parametrize("height, width", [(28, 28), (32, 20), (64, 64), (299, 299), (300, 400), (512, 512)])
def test_clean_is_pillows_bicubic_in_float(height, width):
    x = pictures(2, max(height, width))[1:, :height, :width]
    np.testing.assert_allclose(resized("clean", x)[0], pillow(x[0], SIZE), atol=1e-3, rtol=0)
    noise = pictures(1, max(height, width))[:, :height, :width]
    np.testing.assert_allclose(resized("clean", noise)[0], pillow(noise[0], SIZE), atol=1e-3, rtol=0)


def test_clean_overshoots_nowhere_and_is_not_rounded():
    x = 255 * (np.indices((1, 8, 8, 1)).sum(0) % 2).astype(np.uint8)  # a chess board, at which a cubic overshoots
    out = resized("clean", x)
    assert out.min() == 0.0 and out.max() == 255.0
    assert np.any(out != np.round(out))


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_plain_picture_stays_plain(name):
    out = resized(name, np.full((1, 9, 33, 3), 77, np.uint8), 20)
    assert out.shape == (1, 20, 20, 3)
    np.testing.assert_allclose(out, 77.0, rtol=1e-6)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_the_own_size_changes_nothing(name):
    x = pictures(2, 16)
    np.testing.assert_allclose(resized(name, x, 16), x, atol=1e-4)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_picture_does_not_depend_on_its_batch(name):
    x = pictures(3)
    np.testing.assert_allclose(resized(name, x)[1:2], resized(name, x[1:2]), atol=1e-4)


def test_the_conventions_differ_by_as_much_as_the_module_says():
    x = pictures(2)
    tf1, torch, clean = (resized(name, x) for name in ("tf1", "torch", "clean"))
    assert 100 < np.abs(tf1 - torch).max() < 255
    assert np.abs(clean - torch).max() > 10


def test_uint8_and_float32_pictures_give_the_same():
    x = pictures(1)
    for function in (resize_tf1, resize_torch, resize_clean):
        assert np.array_equal(function(x, 40), function(jnp.asarray(x, jnp.float32), 40))
