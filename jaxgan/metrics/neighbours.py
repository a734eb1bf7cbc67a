"""Fidelity and coverage by nearest neighbours: is a sample near the data, and is the data near the samples?

A real (or generated) example's neighbourhood is the ball that reaches its k-th nearest neighbour of its own kind.

All distances are found in float32 first, with a bound on their error. Only where that leaves a comparison open are they
computed again, in float64 from the differences of the features: counts are those of float64 at the price of float32,
and equal examples have a distance of exactly 0. Where very many comparisons stay open, because examples lie in clumps
far smaller than their distances from the mean, float64's |x|^2 + |y|^2 - 2 x.y decides.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxgan.metrics.frechet import as_features

_BLOCK = 2000  # rows and columns of the distances' matrix at a time
_SPARE = 3  # candidates beyond the k-th neighbour, for float32 to have mistaken their order
_FEATURES = 1024  # summed at a time, which bounds the rounding
_DIFFERENCES = 2**19  # at a time, which stay in the processor's cache
_MANY = 10**8  # differences, half a second; from there on products, which are about 30 times quicker


class PrecisionRecall(NamedTuple):
    """Shares, each in [0, 1]."""

    precision: float  # of generated examples inside some real one's neighbourhood
    recall: float  # of real examples inside some generated one's neighbourhood


class DensityCoverage(NamedTuple):
    """Both are about 1 for equal distributions."""

    density: float  # real neighbourhoods around a generated example, over k: may exceed 1
    coverage: float  # share of real examples with a generated one in their neighbourhood


def precision_recall(real: ArrayLike, fake: ArrayLike, k: int = 3, radii: np.ndarray | None = None) -> PrecisionRecall:
    """Improved precision and recall.

    Args:
        real: `[N, D]`, N > k.
        fake: `[M, D]`, M > k.
        k: which neighbour bounds a neighbourhood.
        radii: `neighbourhoods(real, k)`, where the same real examples are used again and again.

    Returns:
        `.precision` and `.recall`.

    Raises:
        ValueError: the shapes do not fit, an entry is not finite, or there are too few examples for k.

    References:
        Kynkaanniemi et al., Improved Precision and Recall Metric for Assessing Generative Models, 2019, eq. 1 and 2
        (k 3, 50,000 of each, VGG-16 features).

    Conventions:
        A distance equal to the radius is inside (<=), as in the authors' code, StyleGAN3, ADM and torch-fidelity.
    """
    real, fake = as_features(real, fake)
    _require_neighbours(k, real, fake)
    radii_real, radii_fake = _given_or_found(radii, real, k), _radii(fake, k)
    near_fake, near_real = np.zeros(len(fake), bool), np.zeros(len(real), bool)
    for block in _blocks(*_rounded_together(real, fake)):
        _, columns = block.inside(np.less_equal, of_rows=radii_real[block.rows])
        near_fake[block.columns.start + columns] = True
        rows, _ = block.inside(np.less_equal, of_columns=radii_fake[block.columns])
        near_real[block.rows.start + rows] = True
    return PrecisionRecall(float(near_fake.mean()), float(near_real.mean()))


def density_coverage(
    real: ArrayLike, fake: ArrayLike, k: int = 5, radii: np.ndarray | None = None
) -> DensityCoverage:
    """Density and coverage, which an outlier among the real examples does not inflate.

    For the coverage between equal distributions see `expected_coverage`.

    Args:
        real: `[N, D]`, N > k.
        fake: `[M, D]`.
        k: which neighbour bounds a neighbourhood.
        radii: `neighbourhoods(real, k)`, where the same real examples are used again and again.

    Returns:
        `.density` and `.coverage`.

    Raises:
        ValueError: the shapes do not fit, an entry is not finite, or there are too few examples for k.

    References:
        Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models, 2020, eq. 4 and 5 (k 5, 10,000 of
        each).

    Conventions:
        A distance equal to the radius is outside (<), as in the authors' prdc: with real examples that come twice and
        k 1 both numbers are 0.
    """
    real, fake = as_features(real, fake)
    _require_neighbours(k, real)
    radii = _given_or_found(radii, real, k)
    count, covered = 0, np.zeros(len(real), bool)
    for block in _blocks(*_rounded_together(real, fake)):
        rows, _ = block.inside(np.less, of_rows=radii[block.rows])
        count += len(rows)
        covered[block.rows.start + rows] = True
    return DensityCoverage(count / (k * len(fake)), float(covered.mean()))


def neighbourhoods(x: ArrayLike, k: int) -> np.ndarray:
    """Each example's squared distance to its k-th nearest other one.

    Args:
        x: `[N, D]`, N > k.
        k: which neighbour.

    Returns:
        float64 `[N]`.

    Raises:
        ValueError: an entry is not finite, or there are too few examples for k.
    """
    x, _ = as_features(x, x)
    _require_neighbours(k, x)
    return _radii(x, k)


def expected_coverage(real: int, fake: int, k: int = 5) -> float:
    """1 - prod_{i < k} (n - 1 - i) / (n + m - 1 - i): the coverage of n real examples by m draws from the same
    distribution, on average, whatever that distribution is.
    """
    i = np.arange(k)
    return float(1.0 - np.prod((real - 1.0 - i) / (real + fake - 1.0 - i)))


def nearest(x: ArrayLike, among: ArrayLike, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows of `among` to each row of `x`.

    Args:
        x: `[N, D]`.
        among: `[M, D]`, M >= k.
        k: how many.

    Returns:
        Their indices, int64 `[N, k]`, and distances, float64 `[N, k]`, nearest first, of equally near ones the earlier
        first.

    Raises:
        ValueError: the shapes do not fit, an entry is not finite, or there are too few rows for k.
    """
    x, among = as_features(x, among)
    if not 1 <= k <= len(among):
        raise ValueError(f"the {k} nearest of {len(among)} rows: between 1 and all")
    a, b = _rounded_together(among, x)[::-1]
    indices, lower = _candidates(a, b, min(k + _SPARE, len(among)), same=False)
    squares = _squares(x, among, np.repeat(np.arange(len(x)), indices.shape[1]), indices.ravel())
    indices, squares = _sorted(indices, squares.reshape(indices.shape), k)
    if lower.shape[1] < len(among):  # what was not kept is at least as far as the last that was
        for part, distances in _again(x, among, np.flatnonzero(lower[:, -1] <= squares[:, -1] * a.unit)):
            every = np.broadcast_to(np.arange(len(among)), distances.shape)
            indices[part], squares[part] = _sorted(every, distances, k)
    return indices, np.sqrt(squares)


def _given_or_found(radii, real, k):
    if radii is None:
        return _radii(real, k)
    if radii.shape != (len(real),):
        raise ValueError(f"radii {radii.shape} are not those of {len(real)} real examples")
    return radii


def _sorted(indices, squares, k):
    order = np.lexsort((indices, squares), axis=-1)[:, :k]
    return np.take_along_axis(indices, order, 1), np.take_along_axis(squares, order, 1)


def _require_neighbours(k: int, *kinds: np.ndarray) -> None:
    if k < 1 or any(len(x) <= k for x in kinds):
        sizes = " and ".join(str(len(x)) for x in kinds)
        raise ValueError(f"a {k}-th neighbour needs more than {k} examples; there are {sizes}")


class _Rounded(NamedTuple):
    """Features centred, scaled to at most 1, and rounded to float32."""

    exact: np.ndarray  # [N, D], as they were given
    x: np.ndarray  # float32 [N, D]
    squares: np.ndarray  # float32 [N], the squared lengths of the rows of x
    unit: float  # what a squared distance has to be multiplied by for those of x

    @property
    def slack(self) -> float:
        """|error of |x|^2 + |y|^2 - 2 x.y| <= slack (|x|^2 + |y|^2).

        At worst, the sum of a part of the products loses a rounding for each, the sum of the parts one for each, and
        what is done before and after eleven.
        """
        features = self.x.shape[1]
        return (min(features, _FEATURES) + features // _FEATURES + 16) * 2.0**-24


def _rounded(x: np.ndarray, centre: np.ndarray, scale: float) -> _Rounded:
    rounded = ((x - centre) * scale).astype(np.float32)
    squares = np.einsum("nd,nd->n", rounded, rounded, dtype=np.float64).astype(np.float32)
    return _Rounded(x, rounded, squares, scale * scale)


def _rounded_together(real: np.ndarray, fake: np.ndarray) -> tuple[_Rounded, _Rounded]:
    centre = real.mean(0, dtype=np.float64)
    largest = max(np.max(np.abs(x - centre)) for x in (real, fake))
    scale = 1.0 / largest if largest else 1.0
    return _rounded(real, centre, scale), _rounded(fake, centre, scale)


class _Block(NamedTuple):
    """A part of the matrix of squared distances, each with the slack subtracted: lower bounds."""

    a: _Rounded
    b: _Rounded
    rows: slice
    columns: slice
    lower: np.ndarray

    def inside(self, is_inside: np.ufunc, of_rows=None, of_columns=None) -> tuple[np.ndarray, np.ndarray]:
        """The pairs (row, column) that are inside the rows' or the columns' radii, given as squares."""
        radii = of_columns if of_rows is None else of_rows
        limits = (radii * self.a.unit).astype(np.float32)
        found = np.flatnonzero(self.lower <= (limits if of_rows is None else limits[:, None]))
        rows, columns = np.divmod(found, self.lower.shape[1])
        which = columns if of_rows is None else rows
        upper = self.lower.ravel()[found] + self.width(rows, columns)
        result = upper < limits[which]
        rest = np.flatnonzero(~result)
        x, y = self.a.exact[self.rows], self.b.exact[self.columns]
        if len(rest) * x.shape[1] > _MANY:
            squares = _products(x, y)[rows[rest], columns[rest]]
        else:
            squares = _squares(x, y, rows[rest], columns[rest])
        result[rest] = is_inside(squares, radii[which[rest]])
        return rows[result], columns[result]

    def width(self, rows, columns):
        """How far apart the bounds are."""
        return 2 * self.a.slack * (self.a.squares[self.rows][rows] + self.b.squares[self.columns][columns])


def _block(a: _Rounded, b: _Rounded, rows: slice, columns: slice) -> _Block:
    first, *rest = _slices(a.x.shape[1], _FEATURES)
    lower = a.x[rows, first] @ b.x[columns, first].T
    for features in rest:
        lower += a.x[rows, features] @ b.x[columns, features].T
    lower *= -2.0
    lower += (a.squares[rows] * np.float32(1.0 - a.slack))[:, None]
    lower += b.squares[columns] * np.float32(1.0 - a.slack)
    return _Block(a, b, rows, columns, lower)


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _blocks(a: _Rounded, b: _Rounded) -> Iterator[_Block]:
    return (_block(a, b, rows, columns) for rows in _slices(len(a.x), _BLOCK) for columns in _slices(len(b.x), _BLOCK))


def _radii(x: np.ndarray, k: int) -> np.ndarray:
    """Each row's squared distance to its k-th nearest other row."""
    centre = x.mean(0, dtype=np.float64)  # of its own kind, so that a collapsed generator's examples are told apart
    largest = np.max(np.abs(x - centre))
    a = _rounded(x, centre, 1.0 / largest if largest else 1.0)
    indices, lower = _candidates(a, a, min(k + _SPARE, len(x) - 1), same=True)
    upper = lower + 2 * a.slack * (a.squares[:, None] + a.squares[indices])
    # Nearer than the k-th for sure, farther for sure, or to be computed.
    nearer = upper < lower[:, k - 1 : k]
    squares = np.where(nearer, -1.0, np.inf)
    rows, columns = np.nonzero(~nearer & (lower <= np.sort(upper, axis=1)[:, k - 1 : k]))
    squares[rows, columns] = _squares(x, x, rows, indices[rows, columns])
    radii = np.sort(squares, axis=1)[:, k - 1]
    if lower.shape[1] < len(x) - 1:  # what was not kept is at least as far as the last that was
        for part, distances in _again(x, x, np.flatnonzero(lower[:, -1] <= radii * a.unit)):
            distances[np.arange(len(part)), part] = np.inf
            radii[part] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return radii


def _candidates(a: _Rounded, b: _Rounded, keep: int, same: bool) -> tuple[np.ndarray, np.ndarray]:
    """For each row of a, the `keep` rows of b with the least lower bounds: their indices and bounds, in order.

    With `same`, a is b, no row is its own neighbour, and half of the matrix suffices.
    """
    indices, lower = np.zeros((len(a.x), keep), np.int64), np.full((len(a.x), keep), np.inf, np.float32)

    def take(rows, columns, bounds):
        """Only what is nearer than the last one kept so far goes on."""
        found = np.flatnonzero(bounds < lower[rows, -1:])
        if len(found) > 8 * keep * len(bounds) and keep < bounds.shape[1]:
            best = np.argpartition(bounds, keep - 1, axis=1)[:, :keep]
            found = (np.arange(len(bounds))[:, None] * bounds.shape[1] + best).ravel()
        i, j = np.divmod(found, bounds.shape[1])
        value = bounds[i, j]
        i, j = rows.start + i, columns.start + j
        touched = np.unique(i)
        every = np.concatenate([np.repeat(touched, keep), i])
        value, j = np.concatenate([lower[touched].ravel(), value]), np.concatenate([indices[touched].ravel(), j])
        order = np.lexsort((value, every))
        best = order[np.searchsorted(every[order], touched)[:, None] + np.arange(keep)]
        indices[touched], lower[touched] = j[best], value[best]

    if not same:
        for block in _blocks(a, b):
            take(block.rows, block.columns, block.lower)
        return indices, lower
    slices = _slices(len(a.x), _BLOCK)
    for rows in slices:  # first the diagonal, so that most of the rest is far from the outset
        bounds = _block(a, a, rows, rows).lower
        np.fill_diagonal(bounds, np.inf)
        take(rows, rows, bounds)
    for number, rows in enumerate(slices):
        for columns in slices[:number]:
            bounds = _block(a, a, rows, columns).lower
            take(rows, columns, bounds)
            take(columns, rows, bounds.T)
    return indices, lower


def _squares(x: np.ndarray, y: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The squared distances of some pairs, from differences in float64."""
    squares = np.empty(len(rows))
    for part in _slices(len(rows), max(1, _DIFFERENCES // x.shape[1])):
        difference = x[rows[part]].astype(np.float64)
        difference -= y[columns[part]]
        difference *= difference
        squares[part] = difference.sum(1)
    return squares


def _again(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Some rows of x, a part of them at a time, with their squared distances from all of y in float64."""
    by_products = len(rows) * y.size > 10 * _MANY
    step = max(1, _BLOCK**2 // len(y))
    for part in (rows[i : i + step] for i in range(0, len(rows), step)):
        if by_products:
            yield part, _products(x[part], y)
        else:
            i, j = np.divmod(np.arange(len(part) * len(y)), len(y))
            yield part, _squares(x[part], y, i, j).reshape(len(part), len(y))


def _products(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """All squared distances in float64, by |x|^2 + |y|^2 - 2 x.y."""
    centre = y.mean(0, dtype=np.float64)
    x, y = x - centre, y - centre
    distances = x @ y.T
    distances *= -2.0
    distances += np.sum(x * x, axis=1)[:, None]
    distances += np.sum(y * y, axis=1)
    return np.maximum(distances, 0.0, out=distances)
