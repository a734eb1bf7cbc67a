"""Kernel Inception Distance: the squared maximum mean discrepancy under the kernel (x.y / D + 1)^3, without bias.

Binkowski et al., Demystifying MMD GANs, 2018, section 3. MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j)
- 2 mean k(x_i, y_j). Its expectation is 0 between equal distributions whatever N is, so it may come out negative.

Inner products and kernels are computed in the features' own precision, float32 or float64, and summed in float64. Of
Inception's float32 features that leaves an error of about 1e-8, where the distance's noise is 1e-4.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxgan.metrics.frechet import as_features

_ROWS = 1000  # of the kernel's matrix at a time


class KernelDistance(NamedTuple):
    """An estimate and how far it may be off."""

    mean: float
    std: float  # over subsets (n, not n - 1); the standard error over blocks; NaN for the full estimate


def kid(real: ArrayLike, fake: ArrayLike) -> KernelDistance:
    """The estimate from all pairs: half the noise of blocks of a quarter of the examples, at N^2 cost.

    Args:
        real: `[N, D]`, N >= 2.
        fake: `[M, D]`, M >= 2.

    Returns:
        `.mean`; `.std` is NaN, because there is one estimate only. (Often quoted times 1000.)

    Raises:
        ValueError: the shapes do not fit, or an entry is not finite.
    """
    real, fake = as_features(real, fake, at_least=2)
    every = [np.ones((len(x), 1)) for x in (real, fake)]
    return KernelDistance(float(_estimates(real, fake, *every)[0]), float("nan"))


def kid_subsets(
    real: ArrayLike, fake: ArrayLike, *, subsets: int = 100, subset_size: int = 1000, seed: int = 2020
) -> KernelDistance:
    """The mean over random subsets of equal size, drawn without replacement: what the references report.

    Args:
        real: `[N, D]`.
        fake: `[M, D]`.
        subsets: how many pairs of subsets.
        subset_size: examples in each.
        seed: of NumPy's RandomState, which draws the subset of `real` first, then that of `fake`.

    Returns:
        The mean and the standard deviation over subsets.

    Raises:
        ValueError: the shapes do not fit, an entry is not finite, or there are fewer examples than a subset has.

    Conventions:
        torch-fidelity's sizes, seed and order (its input 1, the generated examples, drawn first: swap the arguments to
        have its very subsets). clean-fid and StyleGAN3 take min(N, 1000) and no seed.
    """
    real, fake = as_features(real, fake, at_least=max(2, subset_size))
    if subsets < 1 or subset_size < 2:
        raise ValueError(f"{subsets} subsets of {subset_size} examples: at least 1 of at least 2")
    rng = np.random.RandomState(seed)
    draws = [[rng.choice(len(x), subset_size, replace=False) for x in (real, fake)] for _ in range(subsets)]
    if (len(real) + len(fake)) ** 2 <= 4 * subsets * subset_size**2:
        # The subsets overlap so much that it is quicker to compute the kernel of all pairs once.
        members = [np.zeros((len(x), subsets)) for x in (real, fake)]
        for subset, draw in enumerate(draws):
            for member, indices in zip(members, draw, strict=True):
                member[indices, subset] = 1.0
        values = _estimates(real, fake, *members)
    else:
        values = [kid(real[x], fake[y]).mean for x, y in draws]
    return KernelDistance(float(np.mean(values)), float(np.std(values)))


def kid_blocks(real: ArrayLike, fake: ArrayLike, *, block_size: int = 1024) -> KernelDistance:
    """The mean over disjoint blocks in order, at most `block_size` examples each: linear in N.

    Args:
        real: `[N, D]`, in random order.
        fake: `[M, D]`, in random order.
        block_size: the most examples in a block; blocks differ by one at most.

    Returns:
        The mean over blocks and its standard error (over n - 1; NaN for one block).

    Raises:
        ValueError: the shapes do not fit, an entry is not finite, or a block would have fewer than two examples.

    Conventions:
        TF-GAN's estimator and block size.
    """
    real, fake = as_features(real, fake, at_least=2)
    count = -(-max(len(real), len(fake)) // block_size)
    if min(len(real), len(fake)) < 2 * count:
        raise ValueError(f"{len(real)} and {len(fake)} examples do not fill {count} blocks with two of each")
    blocks = zip(np.array_split(real, count), np.array_split(fake, count), strict=True)
    values = [kid(x, y).mean for x, y in blocks]
    error = np.std(values, ddof=1) / np.sqrt(count) if count > 1 else float("nan")
    return KernelDistance(float(np.mean(values)), float(error))


def _estimates(x: np.ndarray, y: np.ndarray, in_x: np.ndarray, in_y: np.ndarray) -> np.ndarray:
    """The estimates `[S]` from subsets, told by `in_x` [N, S] and `in_y` [M, S]: 1 for members, 0 for others."""
    n, m = in_x.sum(0), in_y.sum(0)
    within = _within(x, in_x) / (n * (n - 1)) + _within(y, in_y) / (m * (m - 1))
    return within - 2.0 * _across(x, y, in_x, in_y) / (n * m)


def _within(x: np.ndarray, members: np.ndarray) -> np.ndarray:
    """The sum of the kernel over pairs of different members, by half of the matrix."""
    total = -(_kernel_diagonal(x) @ members)
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        total += _across(x[rows], x[rows], members[rows], members[rows])
        total += 2.0 * _across(x[rows], x[:start], members[rows], members[:start])
    return total


def _across(x: np.ndarray, y: np.ndarray, in_x: np.ndarray, in_y: np.ndarray) -> np.ndarray:
    """The sum of the kernel over the members of x and those of y."""
    total = np.zeros(in_x.shape[1])
    for i in range(0, len(x), _ROWS):
        for j in range(0, len(y), _ROWS):
            rows, columns = slice(i, i + _ROWS), slice(j, j + _ROWS)
            kernel = _kernel(x[rows], y[columns])
            total += np.sum(in_x[rows] * (kernel @ in_y[columns].astype(kernel.dtype)), axis=0)
    return total


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    base = x @ y.T
    base /= x.shape[1]
    base += 1.0
    cube = base * base
    cube *= base
    return cube


def _kernel_diagonal(x: np.ndarray) -> np.ndarray:
    return (np.einsum("nd,nd->n", x, x, dtype=np.float64) / x.shape[1] + 1.0) ** 3
