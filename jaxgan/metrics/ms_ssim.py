"""Multi-scale structural similarity of two pictures; its mean over pairs of samples tells how little they vary."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, from fine to coarse; the paper's
_TAPS, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03
LEAST_SIZE = (_TAPS - 1) * 2 ** (len(WEIGHTS) - 1) + 1  # 161: at the coarsest scale the filter just fits


@partial(jax.jit, static_argnames="data_range")
def ms_ssim(x: jax.Array, y: jax.Array, data_range: float = 255.0) -> jax.Array:
    """prod_{j < 5} max(cs_j, 0)^w_j max(l_5 cs_5, 0)^w_5: contrast and structure at all scales, luminance at the last.

    Means, variances and covariance are of 11 x 11 windows with Gaussian weights (sigma 1.5) that lie wholly inside the
    picture; l = (2 m_x m_y + c1) / (m_x^2 + m_y^2 + c1) and cs = (2 s_xy + c2) / (s_x^2 + s_y^2 + c2) are averaged
    over them, with c1 = (0.01 data_range)^2 and c2 = (0.03 data_range)^2 (l times cs before averaging).
    From scale to scale 2 x 2 pixels are averaged.

    Args:
        x: pictures [B, H, W, C], integers or floats.
        y: pictures [B, H, W, C].
        data_range: the largest minus the smallest value that a pixel may take.

    Returns:
        float32 [B], from 0 to 1; 1 for equal pictures. The product is formed for each channel, then averaged.

    Raises:
        ValueError: the shapes differ, or a side is under 161 pixels: at the coarsest scale the window would not fit.
            (Implementations that shrink it give numbers for small pictures, that nothing can be compared with.)

    References:
        Wang, Simoncelli & Bovik, Multi-scale Structural Similarity for Image Quality Assessment, 2003, eq. 7;
        as a measure of GANs' variety: Odena et al., Conditional Image Synthesis with Auxiliary Classifier GANs, 2017.

    Conventions:
        pytorch-msssim's numbers for sides that four halvings leave whole. A side of odd length gets its last line twice
        before it is halved, as in TensorFlow; pytorch-msssim adds lines of zeros on both ends.
    """
    if x.shape != y.shape or x.ndim != 4:
        raise ValueError(f"x {x.shape} and y {y.shape} must be pictures [B, H, W, C] of the same shape")
    if min(x.shape[1:3]) < LEAST_SIZE:
        raise ValueError(
            f"pictures of {x.shape[1]} x {x.shape[2]} are too small for MS-SSIM: both sides need {LEAST_SIZE} pixels"
        )
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    product = 1.0
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            x, y = _halved(x), _halved(y)
        luminance, structure = _similarity(x, y, data_range)
        of_scale = structure * luminance if scale == len(WEIGHTS) - 1 else structure
        product *= jnp.maximum(jnp.mean(of_scale, axis=(1, 2)), 0.0) ** weight
    return jnp.mean(product, axis=-1)


def _similarity(x, y, data_range):
    """The maps of l and cs, [B, H - 10, W - 10, C]."""
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    mean_x, mean_y, mean_squares, mean_xy = jnp.split(_blurred(jnp.concatenate([x, y, x * x + y * y, x * y])), 4)
    squares = mean_x**2 + mean_y**2
    variances, covariance = mean_squares - squares, mean_xy - mean_x * mean_y
    return (2 * mean_x * mean_y + c1) / (squares + c1), (2 * covariance + c2) / (variances + c2)


def _blurred(x):
    """By the window, one side at a time; sums of shifted pictures, at full precision on accelerators too."""
    window = np.exp(-((np.arange(_TAPS) - _TAPS // 2) ** 2) / (2 * _SIGMA**2))
    window = [float(w) for w in window / window.sum()]
    for axis in (1, 2):
        size = x.shape[axis] - _TAPS + 1
        x = sum(w * jax.lax.slice_in_dim(x, i, i + size, axis=axis) for i, w in enumerate(window))
    return x


def _halved(x):
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode="symmetric")
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
