"""Precision and recall for distributions: a curve of what is gained in one for what is lost in the other."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxgan.metrics.frechet import as_features

_EDGE = 1e-10  # from the angles 0 and pi/2, whose slopes are 0 and infinite
_ITERATIONS = 30  # of k-means, after which few points still move


class PrecisionRecallCurve(NamedTuple):
    """From low to high precision."""

    precision: np.ndarray  # [angles], each in [0, 1]
    recall: np.ndarray  # [angles]
    f8: float  # the largest F_8: mostly recall
    f_one_eighth: float  # the largest F_1/8: mostly precision


def prd(
    real: ArrayLike, fake: ArrayLike, *, clusters: int = 20, runs: int = 10, angles: int = 1001, seed: int = 0
) -> PrecisionRecallCurve:
    """The curve of the distributions that real and generated examples have over clusters of both together.

    Args:
        real: `[N, D]`.
        fake: `[N, D]`.
        clusters: of k-means.
        runs: clusterings, with centres drawn anew; the curves are averaged.
        angles: points on the curve.
        seed: of the centres.

    Returns:
        The curve and its two summaries.

    Raises:
        ValueError: the shapes differ (the larger set would draw the clusters to itself), an entry is not finite, or
            there are fewer examples than clusters.

    References:
        Sajjadi et al., Assessing Generative Models via Precision and Recall, 2018, algorithm 1 and section 4.1.

    Conventions:
        The authors' clusters, runs, angles and summaries. They cluster by mini-batches, the best of ten starts; here it
        is Lloyd's algorithm from one start of k-means++. Numbers of two implementations agree roughly only.
    """
    real, fake = as_features(real, fake)
    if real.shape != fake.shape:
        raise ValueError(f"real {real.shape} and fake {fake.shape} must be equally many")
    if runs < 1 or not 1 <= clusters <= 2 * len(real):
        raise ValueError(f"{runs} runs of {clusters} clusters of {2 * len(real)} examples: at least 1, at most all")
    rng = np.random.RandomState(seed)
    both = np.concatenate([real, fake])
    # About their mean, float32 tells near from far; which of two equally near centres is taken makes no difference.
    both = (both - both.mean(0, dtype=np.float64)).astype(np.float32)
    curves = []
    for _ in range(runs):
        labels = k_means(both, clusters, rng)
        p, q = (np.bincount(part, minlength=clusters) / len(real) for part in np.split(labels, 2))
        curves.append(prd_curve(p, q, angles))
    precision, recall = np.mean(curves, axis=0)
    return PrecisionRecallCurve(precision, recall, f_score(precision, recall, 8.0), f_score(precision, recall, 1 / 8.0))


def prd_curve(p: ArrayLike, q: ArrayLike, angles: int = 1001) -> tuple[np.ndarray, np.ndarray]:
    """Of discrete distributions: precision sum_i min(t p_i, q_i) and recall sum_i min(p_i, q_i / t), for slopes t.

    Args:
        p: `[K]`, the real distribution.
        q: `[K]`, the generated one.
        angles: how many slopes: tangents of evenly spaced angles between 0 and 90 degrees.

    Returns:
        Precision and recall, `[angles]` each. All in [0, 1], and (1, 1) among them only if p and q are equal.

    Raises:
        ValueError: these are not two distributions over the same states, or there are fewer than three angles.
    """
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    if p.ndim != 1 or p.shape != q.shape:
        raise ValueError(f"distributions must be [K] both; these are {p.shape} and {q.shape}")
    if not all(np.all(x >= 0) and abs(np.sum(x) - 1.0) < 1e-6 for x in (p, q)):
        raise ValueError("the entries of a distribution must not be negative, and their sum must be 1")
    if angles < 3:
        raise ValueError(f"{angles} angles: at least 3 are needed")
    slopes = np.tan(np.linspace(_EDGE, np.pi / 2 - _EDGE, angles))
    precision = np.sum(np.minimum(slopes[:, None] * p, q), axis=1)
    # The sums of many shares may end a rounding above 1.
    return np.minimum(precision, 1.0), np.minimum(precision / slopes, 1.0)


def f_score(precision: ArrayLike, recall: ArrayLike, beta: float) -> float:
    """The largest (1 + beta^2) precision recall / (beta^2 precision + recall) of a curve.

    A beta above 1 favours recall, one below 1 precision.
    """
    precision, recall = np.asarray(precision, np.float64), np.asarray(recall, np.float64)
    below = beta**2 * precision + recall
    return float(np.max((1 + beta**2) * precision * recall / np.where(below > 0, below, 1.0)))


def k_means(x: np.ndarray, clusters: int, rng: np.random.RandomState) -> np.ndarray:
    """The cluster of each row of x [N, D]: int64 [N]. A cluster may end up with no rows.

    References:
        Lloyd, Least Squares Quantization in PCM, 1982; Arthur & Vassilvitskii, k-means++: The Advantages of Careful
        Seeding, 2007.
    """
    squares = np.sum(x * x, axis=1)

    def from_centre(centre):
        return np.maximum(squares - 2.0 * (x @ centre) + centre @ centre, 0.0)

    chosen = [rng.randint(len(x))]
    nearest = from_centre(x[chosen[0]])
    while len(chosen) < clusters:
        nearest[chosen[-1]] = 0.0  # exactly, whatever rounding made of it
        total = np.cumsum(nearest, dtype=np.float64)
        # Nothing is left to choose when all rows equal a centre: any row is as good then.
        chosen.append(int(min(np.searchsorted(total, rng.uniform() * total[-1], side="right"), len(x) - 1)))
        nearest = np.minimum(nearest, from_centre(x[chosen[-1]]))
    centres = x[chosen]
    labels = np.full(len(x), -1)
    for _ in range(_ITERATIONS):
        before = labels
        labels = np.argmin(np.sum(centres * centres, axis=1) - 2.0 * (x @ centres.T), axis=1)
        if np.array_equal(labels, before):
            break
        members = (labels == np.arange(clusters)[:, None]).astype(x.dtype)
        counts = members.sum(1, keepdims=True)
        centres = np.where(counts > 0, members @ x / np.maximum(counts, 1), centres)
    return labels
