"""Which modes did the generator find? For mixtures whose modes are known, and for classes that a classifier tells."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

POINTS = 2500  # how many samples PacGAN and VEEGAN count on


class ModeCoverage(NamedTuple):
    """Of points in a mixture of equally likely, round modes."""

    modes: int  # found
    high_quality: float  # share of good points, in [0, 1]
    reverse_kl: float  # of all points' nearest modes from the uniform distribution, in nats
    reverse_kl_good: float  # the same, of the good points alone; NaN if there are none


def mode_coverage(
    points: ArrayLike, centres: ArrayLike, std: float, *, within: float = 3.0, least: int = 1
) -> ModeCoverage:
    """Modes found and the share of good points, by PacGAN's protocol.

    A point belongs to the mode whose centre is nearest. It is good if it is nearer to it than `within` standard
    deviations, and a mode is found if at least `least` good points belong to it. Of real points of the plane,
    1 - exp(-4.5) = 98.9 % are good.

    Args:
        points: `[N, D]`. `POINTS` of them make numbers of modes comparable with published ones; more points find more.
        centres: `[K, D]`.
        std: of each mode, in every direction.
        within: standard deviations.
        least: good points in a mode that is found.

    Returns:
        `.modes`, in 0..K; `.high_quality`; `.reverse_kl` and `.reverse_kl_good`, 0 for equally many points in each
        mode and log K for all in one.

    Raises:
        ValueError: the shapes do not fit, there are no points, or an entry is not finite.

    References:
        Srivastava et al., VEEGAN, 2017, section 4.1; Lin et al., PacGAN: The Power of Two Samples in Generative
        Adversarial Networks, 2018, section 4.1 (both 2,500 points).

    Conventions:
        The distance is Euclidean and the comparison strict, as in PacGAN's code, which counts good points only, also in
        the divergence (`reverse_kl_good`). Papers speak of assigning every sample to its nearest mode (`reverse_kl`);
        the two differ where many points are bad. Self-conditioned GAN takes a box, `within` standard deviations along
        each axis, and 50,000 points: 99.5 % of real points are good there.
    """
    points, centres = np.asarray(points, np.float64), np.asarray(centres, np.float64)
    if points.ndim != 2 or centres.ndim != 2 or points.shape[1] != centres.shape[1] or 0 in (len(points), len(centres)):
        raise ValueError(f"points must be [N, D] and centres [K, D]; these are {points.shape} and {centres.shape}")
    if not (np.isfinite(points).all() and np.isfinite(centres).all()):
        raise ValueError("points and centres must be finite; some are not")
    squares = np.sum((points[:, None] - centres) ** 2, axis=-1)
    nearest = np.argmin(squares, axis=1)
    good = np.min(squares, axis=1) < (within * std) ** 2
    all_counts, good_counts = label_histogram(nearest, len(centres)), label_histogram(nearest[good], len(centres))
    return ModeCoverage(
        int(np.sum(good_counts >= least)), float(good.mean()), reverse_kl(all_counts), reverse_kl(good_counts)
    )


class LabelledModes(NamedTuple):
    """Of samples that a classifier has labelled."""

    modes: int  # how many labels occur
    reverse_kl: float  # of the labels from the uniform distribution, in nats


def labelled_modes(labels: ArrayLike, number_of_modes: int) -> LabelledModes:
    """How many labels occur at least once, and how far they are from occurring equally often.

    Of Stacked-MNIST a label is 100 a + 10 b + c, with the digits of the three channels, out of 1,000.

    Args:
        labels: integers `[N]` in 0..number_of_modes - 1. Published counts are of 26,000 (VEEGAN's protocol) or 25,600
            samples (unrolled GANs').
        number_of_modes: how many labels there are.

    Returns:
        `.modes` and `.reverse_kl`, KL(labels || uniform). Even uniform labels have about (K - 1) / (2 N): 0.02 for
        26,000 of 1,000 modes.

    Raises:
        ValueError: the labels are not integers `[N]` in the range, or there are none.

    References:
        Metz et al., Unrolled Generative Adversarial Networks, 2017, section 3.3; PacGAN, 2018, section 4.2.
    """
    counts = label_histogram(labels, number_of_modes)
    if not counts.sum():
        raise ValueError("there are no labels to count")
    return LabelledModes(int(np.sum(counts > 0)), reverse_kl(counts))


def label_histogram(labels: ArrayLike, number_of_labels: int) -> np.ndarray:
    """How often each label occurs: int64 `[number_of_labels]`, of integers `[N]` in 0..number_of_labels - 1.

    Raises:
        ValueError: the labels are not such integers.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or (labels.size and not np.issubdtype(labels.dtype, np.integer)):
        raise ValueError(f"labels must be integers [N]; these are {labels.dtype} {labels.shape}")
    if labels.size and not 0 <= labels.min() <= labels.max() < number_of_labels:
        raise ValueError(f"labels from {labels.min()} to {labels.max()} are not all in 0..{number_of_labels - 1}")
    return np.bincount(labels.astype(np.int64), minlength=number_of_labels)


def reverse_kl(counts: ArrayLike) -> float:
    """KL(p || uniform) in nats of the shares p of counts `[K]`: from 0 to log K; NaN if all are 0.

    "Reverse" because the generated distribution stands first: a mode that is never generated costs nothing by itself.
    """
    counts = np.asarray(counts, np.float64)
    if not counts.sum():
        return float("nan")
    p = counts[counts > 0] / counts.sum()
    return float(max(0.0, np.sum(p * np.log(p * len(counts)))))
