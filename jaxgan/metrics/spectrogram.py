"""Log-mel spectrograms of audio: what to take a Frechet distance of, where no network for features is at hand.

`log_mel(audio, rate).reshape(-1, mels)` makes an example of every frame; the mean over frames one of every clip.
"""

import jax
import jax.numpy as jnp
import numpy as np


def log_mel(
    audio: jax.Array,
    rate: int,
    *,
    size: int = 1024,
    hop: int = 256,
    mels: int = 80,
    low: float = 0.0,
    high: float | None = None,
    floor: float = 1e-5,
) -> jax.Array:
    """log max(floor, sum_f filter_mf |DFT(window frame)|_f).

    Args:
        audio: [B, T], T >= size.
        rate: samples a second.
        size: samples in a frame; the window is Hann's (periodic).
        hop: samples from one frame to the next.
        mels: bands.
        low: Hz, where the lowest band begins.
        high: Hz, where the highest band ends; half the rate by default.
        floor: what silence counts as.

    Returns:
        float32 [B, 1 + (T - size) // hop, mels]. Nothing is padded: every frame lies wholly inside.

    Raises:
        ValueError: the shape is wrong, or the numbers do not fit.

    Conventions:
        As HiFi-GAN's and librosa's defaults: magnitudes, not powers; Slaney's mel scale and bands of area 1 (not
        HTK's); natural logarithm. They pad the ends, by reflection, which is left out here.
    """
    if audio.ndim != 2 or audio.shape[1] < size:
        raise ValueError(f"audio {audio.shape} must be [B, T] with T at least {size}")
    if min(size, hop, mels) < 1 or not floor > 0:
        raise ValueError(f"size {size}, hop {hop}, mels {mels} and floor {floor} must be positive")
    filters = mel_filters(rate, size, mels, low, high).astype(np.float32)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    starts = np.arange(0, audio.shape[1] - size + 1, hop)
    frames = audio.astype(jnp.float32)[:, starts[:, None] + np.arange(size)]
    magnitudes = jnp.abs(jnp.fft.rfft(frames * window))
    # At full precision: an accelerator's default would blur quiet bands.
    return jnp.log(jnp.maximum(jnp.matmul(magnitudes, filters.T, precision="highest"), floor))


def mel_filters(rate: int, size: int, mels: int, low: float = 0.0, high: float | None = None) -> np.ndarray:
    """Triangles over the frequencies of a DFT of `size`: float64 [mels, size // 2 + 1], each of area 1 over Hz.

    Corners are evenly spaced on Slaney's mel scale; each band begins where the last but one ends.

    Raises:
        ValueError: not 0 <= low < high <= rate / 2, or a band falls between two frequencies of the DFT.
    """
    high = rate / 2 if high is None else high
    if not 0 <= low < high <= rate / 2:
        raise ValueError(f"bands from {low} to {high} Hz must lie between 0 and half the rate, {rate / 2} Hz")
    corners = _hz(np.linspace(_mel(low), _mel(high), mels + 2))
    frequencies = np.fft.rfftfreq(size, 1 / rate)
    left, centre, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (right - left)
    if not filters.any(axis=1).all():
        raise ValueError(f"{mels} bands are too narrow for frames of {size} samples: some hold no frequency")
    return filters


# Slaney, Auditory Toolbox, 1998: linear up to 1,000 Hz, which is mel 15, and 27 mels for a factor of 6.4 above.


def _mel(hz):
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)


def _hz(mel):
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))
