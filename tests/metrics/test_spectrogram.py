"""The spectrogram against a plain discrete Fourier transform, and the mel scale against its published numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.metrics.frechet import frechet_distance_from_features
from jaxgan.metrics.spectrogram import _hz, _mel, log_mel, mel_filters


def by_definition(audio, filters, size, hop, floor):
    """Of one clip: frame by frame, frequency by frequency, in float64."""
    n = np.arange(size)
    window = np.sin(np.pi * n / size) ** 2
    frames = [audio[start : start + size] for start in range(0, len(audio) - size + 1, hop)]
    frequencies = np.exp(-2j * np.pi * np.outer(np.arange(size // 2 + 1), n) / size)
    magnitudes = np.abs(np.stack([frequencies @ (frame * window) for frame in frames]))
    return np.log(np.maximum(magnitudes @ filters.T, floor))


@pytest.mark.parametrize(("size", "hop", "length"), [(64, 16, 200), (65, 20, 185), (64, 64, 64), (64, 100, 263)])
def test_against_a_plain_transform(size, hop, length):
    audio = np.random.default_rng(0).normal(size=(2, length)).astype(np.float32)
    ours = log_mel(audio, 8000, size=size, hop=hop, mels=6, low=300.0)
    assert ours.shape == (2, 1 + (length - size) // hop, 6) and ours.dtype == jnp.float32
    filters = mel_filters(8000, size, 6, 300.0)
    for clip, result in zip(audio, ours, strict=True):
        np.testing.assert_allclose(result, by_definition(clip, filters, size, hop, 1e-5), atol=2e-5)


def test_the_defaults():
    audio = np.random.default_rng(0).normal(size=(1, 3000)).astype(np.float32)
    ours = log_mel(audio, 22050)
    assert ours.shape == (1, 1 + (3000 - 1024) // 256, 80)
    filters = mel_filters(22050, 1024, 80, 0.0, 11025.0)
    np.testing.assert_allclose(ours[0], by_definition(audio[0], filters, 1024, 256, 1e-5), atol=2e-5)


def test_silence_is_the_floor():
    silence = jnp.zeros((1, 2048))
    np.testing.assert_allclose(log_mel(silence, 16000), np.log(1e-5), rtol=1e-6)
    np.testing.assert_allclose(log_mel(silence, 16000, floor=0.1), np.log(0.1), rtol=1e-6)


@pytest.mark.parametrize("frequency", [200.0, 1000.0, 4000.0])
def test_a_tone_is_loudest_in_its_band(frequency):
    tone = np.sin(2 * np.pi * frequency * np.arange(4096) / 16000)[None]
    loudest = np.asarray(log_mel(tone, 16000, mels=40)).argmax(-1)
    corners = _hz(np.linspace(0, _mel(8000.0), 42))
    assert len(set(loudest.ravel().tolist())) == 1
    assert corners[loudest[0, 0]] <= frequency <= corners[loudest[0, 0] + 2]


def test_the_mel_scale():
    """Slaney's: 200 / 3 Hz a mel up to 1,000 Hz, and 27 mels from there to 6,400 Hz."""
    hz = np.array([0.0, 200.0, 999.0, 1000.0, 6400.0])
    mels = [0.0, 3.0, 14.985, 15.0, 42.0]
    assert [_mel(f) for f in hz] == pytest.approx(mels)
    np.testing.assert_allclose(_hz(np.array(mels)), hz, atol=1e-9)


def test_bands_are_triangles_of_area_1_that_meet_at_their_neighbours_centres():
    rate, size = 16000, 16384
    filters = mel_filters(rate, size, 20, 100.0, 7000.0)
    assert filters.shape == (20, 8193) and filters.dtype == np.float64
    np.testing.assert_allclose(filters.sum(1) * rate / size, 1.0, atol=1e-3)
    frequencies = np.fft.rfftfreq(size, 1 / rate)
    corners = _hz(np.linspace(_mel(100.0), _mel(7000.0), 22))
    for i, band in enumerate(filters):
        inside = frequencies[band > 0]
        assert corners[i] <= inside.min() < corners[i] + 1 and corners[i + 2] - 1 < inside.max() <= corners[i + 2]
        assert abs(frequencies[band.argmax()] - corners[i + 1]) < 1
        assert band.max() == pytest.approx(2 / (corners[i + 2] - corners[i]), rel=0.02)
    assert mel_filters(rate, size, 20)[-1, -2] > 0  # up to half the rate
    np.testing.assert_array_equal(mel_filters(rate, size, 20), mel_filters(rate, size, 20, 0.0, 8000.0))


def test_the_distance_of_frames_tells_noise_from_tones():
    rng = np.random.default_rng(0)
    time = np.arange(8192) / 16000
    tones = [np.stack([np.sin(2 * np.pi * f * time) for f in rng.uniform(200, 2000, 12)]) for _ in range(2)]
    noise = rng.normal(size=(12, 8192))
    frames = [np.asarray(log_mel(x, 16000, mels=10)).reshape(-1, 10) for x in (*tones, noise)]
    assert frechet_distance_from_features(*frames[:2]) < 0.3 * frechet_distance_from_features(frames[0], frames[2])


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((5000,), {}, "must be"),
        ((1, 1023), {}, "at least 1024"),
        ((1, 1024), {"hop": 0}, "must be positive"),
        ((1, 1024), {"size": 0}, "must be positive"),
        ((1, 1024), {"mels": 0}, "must be positive"),
        ((1, 1024), {"floor": 0.0}, "must be positive"),
        ((1, 1024), {"low": -1.0}, "0 and half the rate"),
        ((1, 1024), {"high": 8001.0}, "half the rate, 8000.0"),
        ((1, 1024), {"low": 500.0, "high": 500.0}, "bands from 500.0"),
        ((1, 1024), {"mels": 400}, "too narrow"),
    ],
)
def test_what_makes_no_spectrogram_is_refused(shape, arguments, message):
    with pytest.raises(ValueError, match=message):
        log_mel(np.zeros(shape, np.float32), 16000, **arguments)
    assert log_mel(np.zeros((1, 1024), np.float32), 16000, hop=1, mels=1, high=8000.0).shape == (1, 1, 1)
