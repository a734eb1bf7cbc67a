"""The Frechet distance between Gaussians fitted to two sets of features (FID, where the features are Inception's).

d^2 = ||m1 - m2||^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).
Dowson & Landau, The Frechet distance between multivariate normal distributions, 1982; Heusel et al., GANs Trained by a
Two Time-Scale Update Rule, 2017 (FID), eq. 6.

Everything here runs on the host in float64: the trace of the root takes differences that float32 does not hold (at a
distance of 1.35 a float32 eigendecomposition gave 2.24). Covariances divide by N - 1, as all references but StyleGAN's
(a difference of -1.6e-4 at N = 5000, d = 2048).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

_ROWS = 4096  # centred in float64 at a time


def frechet_distance(mean1: ArrayLike, cov1: ArrayLike, mean2: ArrayLike, cov2: ArrayLike) -> float:
    """||m1 - m2||^2 + tr C1 + tr C2 - 2 tr (R C2 R^T)^(1/2), with R^T R = C1.

    The symmetric form has a real root for any covariances, singular ones too, so nothing is added to their diagonals.
    (Of singular ones `frechet_distance_from_features` gives more digits.)

    Args:
        mean1, mean2: `[D]`.
        cov1, cov2: `[D, D]`, symmetric, positive semi-definite.

    Returns:
        The squared distance, never negative.

    Raises:
        ValueError: the shapes do not fit, or an entry is not finite.
    """
    mean1, cov1, mean2, cov2 = (np.asarray(x, np.float64) for x in (mean1, cov1, mean2, cov2))
    size = mean1.shape[0] if mean1.ndim == 1 else -1
    shapes = [x.shape for x in (mean1, cov1, mean2, cov2)]
    if shapes != [(size,), (size, size)] * 2:
        raise ValueError(f"means must be [D] and covariances [D, D]; these are {', '.join(map(str, shapes))}")
    _require_finite(mean1, cov1, mean2, cov2)
    root = _root(cov1)
    trace = np.sum(np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov2 @ root.T), 0.0)))
    return _distance(mean1, np.trace(cov1), mean2, np.trace(cov2), trace)


def frechet_distance_from_features(real: ArrayLike, fake: ArrayLike) -> float:
    """The Frechet distance between Gaussians fitted to two sets of features.

    With no more examples than features a covariance is singular, and the roots of its zeros are noise (1e-5 of a
    distance of 25). There tr (C1 C2)^(1/2) is computed as the sum of the singular values of R1 R2^T, with the centred
    features over (N - 1)^(1/2) for R1, or R2, or both.

    Args:
        real: `[N, D]`, N >= 2.
        fake: `[M, D]`, M >= 2.

    Returns:
        The squared distance, never negative. It grows as N and M fall, also between equal distributions: compare
        numbers of the same N only.

    Raises:
        ValueError: the shapes do not fit, or an entry is not finite.
    """
    real, fake = as_features(real, fake, at_least=2)
    size = real.shape[1]
    if min(len(real), len(fake)) > size:
        return frechet_distance(*mean_and_covariance(real), *mean_and_covariance(fake))

    def statistics(x):
        """The mean, the covariance's trace, and any R with R^T R the covariance."""
        if len(x) > size:
            mean, cov = mean_and_covariance(x)
            return mean, np.trace(cov), _root(cov)
        mean = x.mean(0, dtype=np.float64)
        root = (x - mean) / np.sqrt(len(x) - 1)
        return mean, np.sum(root * root), root

    (mean1, trace1, root1), (mean2, trace2, root2) = statistics(real), statistics(fake)
    return _distance(mean1, trace1, mean2, trace2, np.sum(np.linalg.svd(root1 @ root2.T, compute_uv=False)))


class Extrapolation(NamedTuple):
    """A straight line through distances against 1 / N."""

    value: float  # where 1 / N is 0
    slope: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def frechet_distance_infinity(
    real: ArrayLike, fake: ArrayLike, *, points: int = 15, smallest: int = 5000, seed: int = 0
) -> Extrapolation:
    """The distance at infinitely many generated examples, extrapolated from subsets: FID-infinity.

    Only the generated side is extrapolated; a finite reference leaves an offset.

    Args:
        real: `[N, D]`.
        fake: `[M, D]`, M > smallest.
        points: how many sizes of subsets, evenly spaced from `smallest` to M.
        smallest: the least size.
        seed: of the subsets.

    Returns:
        The intercept of the least-squares line of distances on 1 / size, with the points.

    Raises:
        ValueError: there are no more examples than `smallest`, or fewer than two points.

    References:
        Chong & Forsyth, Effectively Unbiased FID and Inception Score and where to find them, 2020 (15 points from 5,000
        to 50,000).
    """
    real, fake = as_features(real, fake, at_least=2)
    if points < 2 or not 2 <= smallest < len(fake):
        raise ValueError(f"{points} sizes from {smallest} to {len(fake)}: two or more are needed, and more examples")
    rng = np.random.RandomState(seed)
    reference = mean_and_covariance(real)
    sizes = tuple(int(size) for size in np.linspace(smallest, len(fake), points))
    subsets = (fake[rng.permutation(len(fake))[:size]] for size in sizes)
    distances = tuple(frechet_distance(*reference, *mean_and_covariance(subset)) for subset in subsets)
    slope, value = np.polyfit(1.0 / np.asarray(sizes), distances, 1)
    return Extrapolation(float(value), float(slope), sizes, distances)


def mean_and_covariance(features: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The mean `[D]` and the covariance `[D, D]`, over N - 1, of features `[N, D]`, in float64.

    Raises:
        ValueError: the shape is wrong, or there are fewer than two examples.
    """
    features = np.asarray(features)
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features {features.shape} must be [N, D] with two examples or more")
    mean = features.mean(0, dtype=np.float64)
    scatter = np.zeros((features.shape[1],) * 2)
    for start in range(0, len(features), _ROWS):
        centred = features[start : start + _ROWS] - mean
        scatter += centred.T @ centred
    scatter /= len(features) - 1
    return mean, scatter


def as_features(real: ArrayLike, fake: ArrayLike, at_least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of features, in float32 if both fit into it, else in float64; ValueError with both shapes."""
    real, fake = np.asarray(real), np.asarray(fake)
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(f"features must be [N, D] and [M, D]; these are {real.shape} and {fake.shape}")
    if min(len(real), len(fake)) < at_least:
        raise ValueError(f"{at_least} or more examples are needed of each kind; there are {len(real)} and {len(fake)}")
    fits = all(np.can_cast(x.dtype, np.float32) for x in (real, fake))
    real, fake = (x.astype(np.float32 if fits else np.float64, copy=False) for x in (real, fake))
    _require_finite(real, fake)
    return real, fake


def _root(cov: np.ndarray) -> np.ndarray:
    """R with R^T R = cov.

    Cholesky's, which a singular matrix lacks, keeps small eigenvalues to more digits than eigenvectors do, for less.
    """
    try:
        return np.linalg.cholesky(cov).T
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(cov)
        return np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T


def _require_finite(*arrays: np.ndarray) -> None:
    if not all(np.isfinite(x).all() for x in arrays):
        raise ValueError("features and their statistics must be finite; some are not")


def _distance(mean1, trace1, mean2, trace2, trace_of_root) -> float:
    difference = mean1 - mean2
    return float(max(0.0, difference @ difference + trace1 + trace2 - 2.0 * trace_of_root))
