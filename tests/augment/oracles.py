"""The operations of augmentation once more, for one picture `[H, W, C]`, with NumPy and SciPy in float64.

Geometry is done on a large canvas: the picture with its reflections around it, as far as they may be needed.
"""

import numpy as np
from scipy import ndimage, signal
from scipy.spatial.transform import Rotation

AXIS = np.ones(3) / np.sqrt(3)


def daubechies(moments, pick):
    """An orthogonal low-pass filter of so many vanishing moments by spectral factorisation.

    z = a root of Daubechies' polynomial; of each reciprocal pair (or quadruple) one half is kept, by `pick`'s bits.
    """
    from scipy.special import comb

    y = np.roots([comb(moments - 1 + k, k) for k in range(moments)][::-1])
    inner = []
    for root in y[y.imag >= -1e-9]:
        both = np.roots([1, -2 + 4 * root, 1])
        inner.append(both[np.argmin(abs(both))])
    zeros = []
    for bit, zero in enumerate(sorted(inner, key=lambda z: (z.real, z.imag))):
        kept = 1 / zero if pick >> bit & 1 else zero
        zeros += [kept] if abs(kept.imag) < 1e-6 else [kept, kept.conj()]
    taps = np.real(np.poly([-1.0] * moments + zeros))
    return taps * np.sqrt(2) / taps.sum()


def asymmetry(taps):
    """How far the phase is from a straight line over the frequencies."""
    frequency = np.linspace(0.01, 2.6, 60)
    phase = np.unwrap(np.angle(np.exp(-1j * frequency[:, None] * np.arange(len(taps))) @ taps))
    return np.abs(phase - frequency * (phase @ frequency / (frequency @ frequency))).max()


def canvas(x, reach):
    """A square canvas around the picture (to the nearest pixel), reflected."""
    side = max(x.shape[:2]) + 2 * reach
    pads = [((side - n) // 2, side - n - (side - n) // 2) for n in x.shape[:2]]
    return np.pad(x.astype(np.float64), [*pads, (0, 0)], mode="reflect"), pads


def blit(x, mirrored, turns, pixels):
    big, pads = canvas(x, 4 * max(x.shape[:2]))
    big = np.rot90(big[:, ::-1] if mirrored else big, turns)
    big = np.roll(big, (int(pixels[1]), int(pixels[0])), (0, 1))
    return big[pads[0][0] : pads[0][0] + x.shape[0], pads[1][0] : pads[1][0] + x.shape[1]]


def point_map(draws):
    """Where the augmented picture's points were in the given one, from the forward steps one after the other."""

    def spin(angle):  # to the left, as y points down
        c, s = np.cos(angle), np.sin(angle)
        return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])

    def shift(by):
        return np.array([[1, 0, by[0]], [0, 1, by[1]], [0, 0, 1]])

    forward = np.eye(3)
    for step in (
        np.diag([-1.0 if draws.mirrored else 1.0, 1, 1]),
        spin(np.pi / 2 * draws.turns),
        shift(draws.pixels),
        np.diag([draws.scale, draws.scale, 1]),
        spin(draws.before),
        np.diag([draws.stretch, 1 / draws.stretch, 1]),
        spin(draws.after),
        shift(draws.move),
    ):
        forward = step @ forward
    return np.linalg.inv(forward)


def warp(x, inverse, taps):
    """Doubled with `taps`, looked up bilinearly by SciPy, halved with the taps reversed in time."""
    height, width = x.shape[:2]
    reach = 3 * max(height, width)
    big = np.pad(x.astype(np.float64), [(reach, reach), (reach, reach), (0, 0)], mode="reflect")
    for axis in (0, 1):
        big = signal.upfirdn(np.sqrt(2) * taps, big, up=2, axis=axis)
    delay = (taps @ np.arange(len(taps))) / taps.sum()  # of the doubled canvas
    # From a sample's (row, column) to pixels from the middle and back: position = sample / 2 - middle.
    middle = np.array([reach + (height - 1) / 2 + delay / 2, reach + (width - 1) / 2 + delay / 2])
    linear, offset = inverse[:2, :2][::-1, ::-1], inverse[:2, 2][::-1]
    move = 2 * (offset + middle) - linear @ (2 * middle)
    out = np.empty_like(big)
    for channel in range(x.shape[2]):
        out[..., channel] = ndimage.affine_transform(big[..., channel], linear, move, order=1, mode="constant")
    for axis in (0, 1):
        out = signal.upfirdn(taps[::-1] / np.sqrt(2), out, down=1, axis=axis)
        out = np.take(out, np.arange(len(taps) - 1, out.shape[axis], 2), axis)
    return out[reach : reach + height, reach : reach + width]


def color_matrix(brightness, contrast, flipped, hue, saturation):
    plane = np.outer(AXIS, AXIS)

    def homogeneous(linear, shift=0.0):
        return np.block([[linear, np.full((3, 1), shift)], [np.zeros((1, 3)), np.ones((1, 1))]])

    total = homogeneous(np.eye(3), brightness)
    total = homogeneous(contrast * np.eye(3)) @ total
    total = homogeneous(np.eye(3) - 2 * plane * bool(flipped)) @ total
    total = homogeneous(Rotation.from_rotvec(AXIS * hue).as_matrix()) @ total
    return homogeneous(plane + saturation * (np.eye(3) - plane)) @ total


def recolor(x, matrix):
    rgb = np.broadcast_to(x, (*x.shape[:2], 3)).astype(np.float64)
    out = rgb @ matrix[:3, :3].T + matrix[:3, 3]
    return out if x.shape[2] == 3 else out.mean(2, keepdims=True)


def amplify(x, gains, taps):
    """Octaves by their frequency responses: |H|^2 / 2 of the low-pass filter, at 1, 2 and 4 times the frequency."""
    n = 64
    frequency = 2 * np.pi * np.arange(n) / n

    def low(times):
        return np.abs(np.exp(-1j * times * frequency[:, None] * np.arange(len(taps))) @ taps) ** 2 / 2

    bands = [low(1) * low(2) * low(4), low(1) * low(2) * (1 - low(4)), low(1) * (1 - low(2)), 1 - low(1)]
    kernel = np.fft.fftshift(np.real(np.fft.ifft(sum(g * band for g, band in zip(gains, bands, strict=True)))))
    for axis in (0, 1):
        x = ndimage.correlate1d(np.float64(x), kernel[1:], axis, mode="mirror")
    return x


def band_gains(amplitudes):
    gains, power = np.ones(4), np.array([10, 1, 1, 1]) / 13
    for band, amplitude in enumerate(amplitudes):
        step = np.ones(4)
        step[band] = amplitude
        gains *= step / np.sqrt(power @ step**2)
    return gains


def hide(x, middle):
    """By the paper's rounding of the rectangle's corners."""
    out = np.array(x, np.float64)
    sides = np.array(x.shape[1::-1])
    low = np.maximum(0, np.round((middle - 0.25) * sides)).astype(int)
    high = np.maximum(0, np.round((middle + 0.25) * sides)).astype(int)
    out[low[1] : high[1], low[0] : high[0]] = 0
    return out


def everything(x, draws, noise, sym6, sym2):
    """The whole pipe on one picture that everything is done to."""
    x = warp(x, point_map(draws), sym6)
    x = recolor(x, color_matrix(draws.brightness, draws.contrast, draws.flipped, draws.hue, draws.saturation))
    x = amplify(x, draws.gains, sym2) + draws.noise * noise
    return hide(x, draws.middle) if draws.hidden else x
