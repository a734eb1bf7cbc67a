"""Winograd's minimal filtering for small kernels: fewer multiplications than a convolution as it is defined.

Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016 (arXiv:1509.09308). Tiles of M x M pixels of
the result depend on N x N pixels of the picture, N = M + k - 1, and with three fixed matrices, along either axis,

    y = A^T [(G kernel G^T) * (B^T x B)] A,

where * multiplies numbers at the same of the N x N points, summed over channels: one matrix product for each point,
N^2 / M^2 multiplications for each pixel in place of k^2. With M = 4 that is 2.25 in place of 9 for kernels of 3, and
1.56 in place of 4 for kernels of 2. The matrices interpolate polynomials (`matrices`), so y is exact but for rounding;
how much that is depends on where they interpolate, see `POINTS`.

Three products as in `convolution`, which knows when each of them pays: of padded pictures [B, H, W, C] and kernels
[k, k, C, O], k = 2 or 3, with stride 1 and "VALID" padding. They are made of sums and matrix products alone, which
XLA:CPU runs well; the batch is taken in parts whose transforms fit into the cache.
"""

import functools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

M = 4
# Where the polynomials are known, and beside these at infinity. Of the sets tried for each N these round least: a
# result of standard deviation 1 has errors of 1.0e-6 with those of kernels of 3 and 1.2e-6 with those of kernels of 2
# (root mean square, 128 channels; 2.2e-7 as it is defined), where the usual 0, 1, -1, 2, -2 leave 2.1e-6. After
# Barabasz, Anderson, Soodhalter and Gregg, "Error analysis and improving the accuracy of Winograd convolution for deep
# neural networks", 2020 (arXiv:1803.10986), who search for such points.
POINTS = {2: ("0", "1", "-1", "1/2"), 3: ("0", "3/4", "-3/4", "3/2", "-3/2")}
CACHE = 32 * 2**20  # bytes


@functools.cache
def matrices(k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A [N, M], G [N, k] and B^T [N, N] of kernels of k, N = M + k - 1.

    The result of an M-vector and a k-vector multiplied as polynomials has degree N - 1: its values at the N - 1
    points are the products of both vectors' values there, and its last coefficient is the product of theirs. Filtering
    is the transpose of that product in the M-vector.
    """
    points = [Fraction(p) for p in POINTS[k]]
    zero = [Fraction(0)]
    a = [[p**i for i in range(M)] for p in points] + [zero * (M - 1) + [Fraction(1)]]
    g, b = [], []
    for p in points:
        others = [q for q in points if q != p]
        scale = math.prod((p - q for q in others), start=Fraction(1))
        g.append([p**i / scale for i in range(k)])
        b.append(_coefficients(others) + zero)
    g.append(zero * (k - 1) + [Fraction(1)])
    b.append(_coefficients(points))
    return tuple(np.array(rows, np.float64) for rows in (a, g, b))


def _coefficients(roots: Sequence[Fraction]) -> list[Fraction]:
    """Of the polynomial (t - roots[0]) (t - roots[1]) ..., the constant one first."""
    c = [Fraction(1)]
    for root in roots:
        c = [low - root * high for low, high in zip([Fraction(0), *c], [*c, Fraction(0)], strict=True)]
    return c


def points(k: int) -> int:
    """How many multiplications a tile takes, for each pair of channels, and numbers the transform of a kernel."""
    return (M + k - 1) ** 2


def tiles(size: Sequence[int]) -> int:
    """How many tiles cover a result of `size` = (h, w)."""
    return math.prod(_tiles(size))


def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution: [B, H, W, C], [k, k, C, O] -> [B, H - k + 1, W - k + 1, O]."""
    k, _, channels, features = kernel.shape
    batch, height, width = (x.shape[0], *(n - k + 1 for n in x.shape[1:3]))
    kernel = _of_kernel(kernel)

    def filtered(x):
        return _to_result(_products(_of_picture(x, k), kernel, 2, 1), k, (len(x), height, width))

    return _in_parts(filtered, _together((batch, height, width), k, channels + features), x)


def transpose(y: jax.Array, kernel: jax.Array) -> jax.Array:
    """The derivative of `conv` in x, applied to y: [B, h, w, O], [k, k, C, O] -> [B, h + k - 1, w + k - 1, C]."""
    k, _, channels, features = kernel.shape
    kernel = _of_kernel(kernel)

    def spread(y):
        return _to_picture(_products(_of_result(y, k), kernel, 2, 2), k, y.shape[:3])

    return _in_parts(spread, _together(y.shape, k, channels + features), y)


def kernel_product(x: jax.Array, y: jax.Array, k: int) -> jax.Array:
    """The derivative of `conv` in the kernel, applied to y: [B, H, W, C], [B, H-k+1, W-k+1, O] -> [k, k, C, O]."""

    def product(x, y):
        return _products(_of_picture(x, k), _of_result(y, k), 1, 1)

    together = _together(y.shape, k, x.shape[3] + y.shape[3])
    if together == len(x):
        total = product(x, y)
    else:
        zeros = jnp.zeros((points(k), x.shape[3], y.shape[3]), x.dtype)
        parts = _split(x, together), _split(y, together)
        total, _ = lax.scan(lambda total, part: (total + product(*part), None), zeros, parts)
    _, g, _ = matrices(k)
    return _along(_along(_at_points(total, k), g.T, 0), g.T, 1)


def _together(shape: Sequence[int], k: int, channels: int) -> int:
    """How many pictures are taken at a time: the most that divide the batch and whose transforms fit into the cache."""
    batch, height, width = shape[:3]
    each = tiles((height, width)) * points(k) * channels * 4
    return next(n for n in range(batch, 0, -1) if batch % n == 0 and (n == 1 or n * each <= CACHE))


def _in_parts(f: Callable, together: int, x):
    """f of so many pictures after the others."""
    if together == len(x):
        return f(x)
    y = lax.map(f, _split(x, together))
    return y.reshape(-1, *y.shape[2:])


def _split(x, together: int):
    return x.reshape(-1, together, *x.shape[1:])


def _tiles(size: Sequence[int]) -> tuple[int, int]:
    """Down and to the right."""
    return tuple(-(-n // M) for n in size)


def _fill(x, height: int, width: int):
    """Zeros below and to the right, up to whole tiles."""
    return jnp.pad(x, ((0, 0), (0, height - x.shape[1]), (0, width - x.shape[2]), (0, 0)))


def _along(x, matrix: np.ndarray, axis: int):
    """A small matrix times one axis of x, written out as sums, which XLA makes one pass over x of."""
    slices = [lax.index_in_dim(x, i, axis, keepdims=False) for i in range(matrix.shape[1])]
    return jnp.stack(_combined(matrix, slices), axis)


def _combined(matrix: np.ndarray, parts: Sequence[jax.Array]) -> list[jax.Array]:
    terms = ([part if c == 1 else float(c) * part for c, part in zip(row, parts, strict=True) if c] for row in matrix)
    return [functools.reduce(jnp.add, row) for row in terms]


def _of_kernel(kernel):
    """G kernel G^T: [k, k, C, O] -> [N * N, C, O]."""
    _, g, _ = matrices(kernel.shape[0])
    return _along(_along(kernel, g, 0), g, 1).reshape(-1, *kernel.shape[2:])


def _of_picture(x, k: int):
    """B^T x B of tiles of N x N pixels that overlap: [B, H, W, C] -> [N * N, B * tiles, C]."""
    _, _, b = matrices(k)
    batch, height, width, channels = x.shape
    down, right = _tiles((height - k + 1, width - k + 1))
    x = _fill(x, down * M + k - 1, right * M + k - 1)

    def every(x, first, count, axis):
        return lax.slice_in_dim(x, first, first + M * (count - 1) + 1, M, axis)

    x = jnp.stack(_combined(b, [every(x, i, down, 1) for i in range(len(b))]))
    x = jnp.stack(_combined(b, [every(x, i, right, 3) for i in range(len(b))]), axis=1)
    return x.reshape(len(b) ** 2, batch * down * right, channels)


def _of_result(y, k: int):
    """A y A^T of tiles of M x M pixels: [B, h, w, O] -> [N * N, B * tiles, O]."""
    a, _, _ = matrices(k)
    batch, height, width, features = y.shape
    down, right = _tiles((height, width))
    y = _fill(y, down * M, right * M).reshape(batch, down, M, right, M, features)
    y = jnp.stack(_combined(a, [y[:, :, i] for i in range(M)]))
    y = jnp.stack(_combined(a, [y[:, :, :, :, i] for i in range(M)]), axis=1)
    return y.reshape(len(a) ** 2, batch * down * right, features)


def _to_result(products, k: int, shape: Sequence[int]):
    """A^T products A: [N * N, B * tiles, O] -> [B, h, w, O], shape = (B, h, w)."""
    a, _, _ = matrices(k)
    batch, height, width = shape
    down, right = _tiles((height, width))
    y = _along(_along(_at_points(products, k), a.T, 0), a.T, 1).reshape(M, M, batch, down, right, -1)
    y = y.transpose(2, 3, 0, 4, 1, 5).reshape(batch, down * M, right * M, -1)
    return y[:, :height, :width]


def _to_picture(products, k: int, shape: Sequence[int]):
    """B products B^T, where tiles overlap their sum: [N * N, B * tiles, C] -> [B, h + k - 1, w + k - 1, C]."""
    _, _, b = matrices(k)
    batch, height, width = shape
    down, right = _tiles((height, width))
    x = _at_points(products, k).reshape(len(b), len(b), batch, down, right, -1)
    x = _laid(_combined(b.T, [x[i] for i in range(len(b))]), 2)  # [N, B, rows, right, C]
    x = _laid(_combined(b.T, [x[i] for i in range(len(b))]), 2)  # [B, rows, columns, C]
    return x[:, : height + k - 1, : width + k - 1]


def _laid(lines, axis: int):
    """The sum of tiles' N lines where they lie, M apart: each [..., tiles, ...] -> [..., (tiles + 1) * M, ...]."""

    def padded(x, before, after):
        return jnp.pad(x, [(before, after) if i == axis else (0, 0) for i in range(x.ndim)])

    over = [*lines[M:], *[jnp.zeros_like(lines[0])] * (2 * M - len(lines))]
    x = padded(jnp.stack(lines[:M], axis + 1), 0, 1) + padded(jnp.stack(over, axis + 1), 1, 0)
    return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])


def _at_points(x, k: int):
    """[N * N, ...] -> [N, N, ...]."""
    return x.reshape(M + k - 1, M + k - 1, *x.shape[1:])


def _products(left, right, left_axis: int, right_axis: int):
    """One matrix product for each of the points, over these axes."""
    return lax.dot_general(left, right, (((left_axis,), (right_axis,)), ((0,), (0,))))
