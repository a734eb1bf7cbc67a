"""MS-SSIM against pytorch-msssim's numbers, a float64 implementation of the paper, and its laws."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.metrics.ms_ssim import ms_ssim
from tests.metrics import peers


def by_definition(x, y, data_range=255.0):
    """Of one picture [H, W], with full two-dimensional windows."""
    ticks = np.arange(-5, 6)
    window = np.exp(-(ticks[:, None] ** 2 + ticks**2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(a):
        return np.einsum("hwij,ij->hw", np.lib.stride_tricks.sliding_window_view(a, (11, 11)), window)

    product = 1.0
    x, y = x.astype(np.float64), y.astype(np.float64)
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale:
            x, y = (np.pad(a, [(0, n % 2) for n in a.shape], mode="edge") for a in (x, y))
            x, y = (a.reshape(a.shape[0] // 2, 2, a.shape[1] // 2, 2).mean((1, 3)) for a in (x, y))
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        mx, my = mean(x), mean(y)
        structure = (2 * (mean(x * y) - mx * my) + c2) / (mean(x * x) - mx**2 + mean(y * y) - my**2 + c2)
        luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        product *= max(np.mean(structure * luminance if scale == 4 else structure), 0.0) ** weight
    return product


def grey(seed, h=176, w=161):
    rng = np.random.default_rng(seed)
    smooth = np.kron(rng.uniform(0, 255, (h // 8 + 1, w // 8 + 1)), np.ones((8, 8)))[:h, :w]
    return smooth, np.clip(0.7 * smooth + 40 * rng.normal(size=(h, w)), 0, 255)


@pytest.mark.parametrize("size", [(161, 161), (176, 192), (183, 165)])
def test_against_the_paper_in_float64(size):
    x, y = grey(0, *size)
    ours = ms_ssim(x[None, :, :, None], y[None, :, :, None])
    assert float(ours[0]) == pytest.approx(by_definition(x, y), abs=1e-5)


def test_dark_pictures_against_the_paper():
    """Where the constant in the luminance matters."""
    x, y = (p / 50 + shift for p, shift in zip(grey(0, 161), (0.0, 2.0), strict=True))
    ours = float(ms_ssim(x[None, :, :, None], y[None, :, :, None])[0])
    assert ours == pytest.approx(by_definition(x, y), abs=1e-5)


def test_against_pytorch_msssim():
    golden = np.load(peers.PATH)
    x, y = peers.pictures(peers.SEED)
    expected = [float(golden[f"ms_ssim/{i}"]) for i in range(3)]
    np.testing.assert_allclose(ms_ssim(x, y), expected, atol=1e-5)


def test_channels_are_averaged_last():
    (a, b), (c, d) = grey(0, 161), grey(1, 161)
    both = ms_ssim(np.stack([a, c], -1)[None], np.stack([b, d], -1)[None])
    single = [float(ms_ssim(x[None, ..., None], y[None, ..., None])[0]) for x, y in ((a, b), (c, d))]
    assert single[0] != pytest.approx(single[1], rel=1e-3)
    assert float(both[0]) == pytest.approx(np.mean(single), rel=1e-5)


def test_the_range_scales_the_constants():
    x, y = (p[None, ..., None] for p in grey(0, 161))
    ours = ms_ssim(x / 255, y / 255, data_range=1.0)
    assert float(ours[0]) == pytest.approx(float(ms_ssim(x, y)[0]), abs=2e-5)
    assert float(ms_ssim(x, y, data_range=510.0)[0]) > float(ms_ssim(x, y)[0]) + 1e-3


def test_laws():
    x, y = (p[None, ..., None] for p in grey(0, 176, 176))
    assert float(ms_ssim(x, x)[0]) == pytest.approx(1.0, abs=1e-6)
    assert float(ms_ssim(x, y)[0]) == pytest.approx(float(ms_ssim(y, x)[0]), abs=1e-6)
    turned = ms_ssim(x[:, ::-1, ::-1], y[:, ::-1, ::-1])
    assert float(ms_ssim(x, y)[0]) == pytest.approx(float(turned[0]), abs=1e-5)  # its sides are halved without rest
    weaker = ms_ssim(x, x + 0.5 * (y - x))
    assert float(ms_ssim(x, y)[0]) < float(weaker[0]) < 1.0


def test_contrary_pictures_have_0_not_nan():
    x = grey(0, 161)[0][None, ..., None]
    assert float(ms_ssim(x, 255 - x)[0]) == 0.0


def test_the_result_is_a_float32_for_each_picture(strict):
    x = np.zeros((2, 161, 170, 1), np.uint8)
    ours = ms_ssim(x, x)
    assert ours.shape == (2,) and ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, 1.0, atol=1e-6)


@pytest.mark.parametrize("size", [(160, 161), (161, 160), (28, 28)])
def test_small_pictures_are_refused_with_the_least_size(size):
    x = jnp.zeros((1, *size, 1))
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} are too small .* 161 pixels"):
        ms_ssim(x, x)


@pytest.mark.parametrize("shapes", [((1, 161, 161, 1), (1, 161, 161, 3)), ((161, 161, 1), (161, 161, 1))])
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError) as error:
        ms_ssim(*map(jnp.zeros, shapes))
    assert all(str(shape) in str(error.value) for shape in shapes)
