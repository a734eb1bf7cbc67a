"""Strided and transposed convolutions of pictures and their derivatives, in the forms that run fast.

A convolution is bilinear, and three products close under differentiation: the convolution itself, its
transpose (the derivative in x, and what a generator calls a transposed convolution), and the product of two
pictures that is the derivative in the kernel. Each is defined once here and its rule (`jax.custom_vjp`) names
the other two, for two reasons that were measured on XLA:CPU (jax 0.10; a DCGAN update of 64 pictures, 28x28):

- The derivative of a transposed convolution in its kernel, as `lax` derives it, dilates the wrong side: it
  took 190 of the update's 240 ms. Written as the kernel's derivative of a strided convolution it takes 5.
- The transpose itself has better forms on a CPU than a dilated input, see `_transpose_on_cpu`.

Two more forms are a CPU's alone:

- Where channels are many, a CPU multiplies less by Winograd's method (`winograd`): the update of an SNGAN for 32x32
  takes 0.92 s in place of 1.56 s. `jax.default_matmul_precision("highest")` brings the convolutions back as they are
  defined, which round a quarter as much.
- Elsewhere the derivative in the kernel is taken for a part of the batch at a time where the patches of all of it
  would not fit into the cache, see `_kernel_product_in_parts`.

As written here they are as fast inside a compiled loop (`lax.scan`) as outside one (`_kernel_product_plain`).

On GPU and TPU each of the three is one plain `lax.conv_general_dilated`, written so that XLA:GPU knows it for one of
cuDNN's three; where the picture is smaller than the kernel it does not, see `_transpose_on_gpu` and
`_kernel_product_on_gpu`. The price of `custom_vjp`: reverse mode to any order, but no forward mode (`jax.jvp`,
`jax.jacfwd`).

Pictures are [B, H, W, C], kernels [k, k, C, O], padding is "SAME".
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.models import winograd

Size = tuple[int, int]
DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# Up to so many channels a convolution fills too little of a vector register, and a matrix product wins.
FEW_CHANNELS = 4
CACHE = 8 * 2**20  # bytes
FEW_GROUPS = 8
# Winograd's form is worth its sums from so many channels on, where it leaves no more than this share of the products,
# and where these, as they are defined, are so many times as many as the numbers of a transformed kernel.
MANY_CHANNELS, FEWER, LARGER = 64, 0.45, 128


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolution: [B, H, W, C], [k, k, C, O] -> [B, H / stride, W / stride, O], rounded up.

    Equal to `lax.conv_general_dilated(x, kernel, (stride, stride), "SAME")` in NHWC, HWIO.
    """
    if kernel.shape[:2] == (1, 1) and stride == 1:
        return pointwise(x, kernel[0, 0])  # XLA:CPU's convolutions of single pixels take up to four times as long
    return _conv(stride, x.shape[1:3], x, kernel)


def conv_transpose(y: jax.Array, kernel: jax.Array, stride: int = 2) -> jax.Array:
    """Transposed convolution: [B, h, w, O], [k, k, C, O] -> [B, h * stride, w * stride, C].

    Equal to `lax.conv_transpose(y, kernel, (stride, stride), "SAME", transpose_kernel=True)`: the kernel is
    that of the convolution whose transpose this is, so its last axis is the channels of the input.
    """
    return _transpose(stride, (y.shape[1] * stride, y.shape[2] * stride), y, kernel)


@jax.custom_vjp
def pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A convolution of single pixels: [..., C], [C, O] -> [..., O]. Equal to `x @ kernel`.

    On a CPU all pixels stand in one row, where XLA multiplies by a turned matrix as it lies; for the derivative in the
    kernel of [64, 28, 28, 32] it writes the turned one out first, which takes ten times as long as the product.
    """
    return lax.platform_dependent(x, kernel, cpu=_pointwise_in_a_row, default=jnp.matmul)


@jax.custom_vjp
def _pointwise_kernel_product(x, y):
    """The derivative of `pointwise` in the kernel, [C, O], applied to y."""
    return lax.platform_dependent(
        x, y, cpu=_pointwise_kernel_product_in_a_row, default=_pointwise_kernel_product_plain
    )


def _pointwise_backward(residuals, y):
    x, kernel = residuals
    return pointwise(y, kernel.T), _pointwise_kernel_product(x, y)


def _pointwise_kernel_product_backward(residuals, kernel):
    x, y = residuals
    return pointwise(y, kernel.T), pointwise(x, kernel)


pointwise.defvjp(lambda x, kernel: (pointwise(x, kernel), (x, kernel)), _pointwise_backward)
_pointwise_kernel_product.defvjp(
    lambda x, y: (_pointwise_kernel_product(x, y), (x, y)), _pointwise_kernel_product_backward
)


@jax.custom_vjp
def grouped_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of groups of channels, k odd: [B, H, W, G * c], [k, k, c, G * o] -> [B, H, W, G * o].

    Equal to `lax.conv_general_dilated(..., feature_group_count=G)` with stride 1 and "SAME" padding.

    On a CPU one group after another: `lax`'s own took 2 to 4 times as long (jax 0.10; 2 to 32 groups of 16 channels,
    28x28 to 7x7), and its derivative in the kernel 80 to 400 times as long as the convolution itself.
    """
    groups = x.shape[-1] // kernel.shape[2]
    return lax.platform_dependent(
        x, kernel, cpu=partial(_grouped_on_cpu, groups), default=partial(_grouped_plain, groups)
    )


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _grouped_kernel_product(k: int, groups: int, x, y):
    """The derivative of `grouped_conv` in the kernel, [k, k, c, G * o], applied to y."""
    on_cpu, plain = (partial(f, k, groups) for f in (_grouped_kernel_product_on_cpu, _grouped_kernel_product_plain))
    return lax.platform_dependent(x, y, cpu=on_cpu, default=plain)


def _grouped_transposed(kernel, groups):
    """The kernel [k, k, o, G * c] of the derivative in x, which is a grouped convolution too."""
    k, _, size, features = kernel.shape
    kernel = kernel[::-1, ::-1].reshape(k, k, size, groups, features // groups)
    return kernel.transpose(0, 1, 4, 3, 2).reshape(k, k, features // groups, groups * size)


def _grouped_backward(residuals, y):
    x, kernel = residuals
    groups = x.shape[-1] // kernel.shape[2]
    return grouped_conv(y, _grouped_transposed(kernel, groups)), _grouped_kernel_product(
        kernel.shape[0], groups, x, y
    )


def _grouped_kernel_product_backward(k, groups, residuals, kernel):
    x, y = residuals
    return grouped_conv(y, _grouped_transposed(kernel, groups)), grouped_conv(x, kernel)


grouped_conv.defvjp(lambda x, kernel: (grouped_conv(x, kernel), (x, kernel)), _grouped_backward)
_grouped_kernel_product.defvjp(
    lambda k, groups, x, y: (_grouped_kernel_product(k, groups, x, y), (x, y)), _grouped_kernel_product_backward
)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _conv(stride: int, size: Size, x, kernel):
    return lax.platform_dependent(
        x, kernel, cpu=partial(_conv_on_cpu, stride, size), default=partial(_conv_plain, stride, size)
    )


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _transpose(stride: int, size: Size, y, kernel):
    """The derivative of `_conv` in x, of this size, applied to y."""
    return lax.platform_dependent(
        y,
        kernel,
        cpu=partial(_transpose_on_cpu, stride, size),
        tpu=partial(_transpose_plain, stride, size),
        default=partial(_transpose_on_gpu, stride, size),
    )


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _kernel_product(stride: int, size: Size, k: int, x, y):
    """The derivative of `_conv` in the kernel [k, k, C, O], applied to y."""
    forms = {"cpu": _kernel_product_on_cpu, "tpu": _kernel_product_plain, "default": _kernel_product_on_gpu}
    return lax.platform_dependent(x, y, **{name: partial(f, stride, size, k) for name, f in forms.items()})


def _conv_backward(stride, size, residuals, y):
    x, kernel = residuals
    return _transpose(stride, size, y, kernel), _kernel_product(stride, size, kernel.shape[0], x, y)


def _transpose_backward(stride, size, residuals, x):
    y, kernel = residuals
    return _conv(stride, size, x, kernel), _kernel_product(stride, size, kernel.shape[0], x, y)


def _kernel_product_backward(stride, size, k, residuals, kernel):
    x, y = residuals
    return _transpose(stride, size, y, kernel), _conv(stride, size, x, kernel)


_conv.defvjp(lambda stride, size, x, kernel: (_conv(stride, size, x, kernel), (x, kernel)), _conv_backward)
_transpose.defvjp(
    lambda stride, size, y, kernel: (_transpose(stride, size, y, kernel), (y, kernel)), _transpose_backward
)
_kernel_product.defvjp(
    lambda stride, size, k, x, y: (_kernel_product(stride, size, k, x, y), (x, y)), _kernel_product_backward
)


def _same(size: int, k: int, stride: int) -> tuple[int, int]:
    """The padding before and after that "SAME" means."""
    total = max((-(-size // stride) - 1) * stride + k - size, 0)
    return total // 2, total - total // 2


def _conv_plain(stride: int, size: Size, x, kernel):
    padding = [_same(n, kernel.shape[0], stride) for n in size]
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=DIMENSIONS)


def _conv_on_cpu(stride: int, size: Size, x, kernel):
    """The form that was measured to be the fastest for these shapes."""
    reduced = tuple(-(-n // stride) for n in size)
    if _is_small(reduced, kernel.shape[0]):
        return _conv_of_patches(stride, size, x, kernel)
    if _has_fewer_products(stride, (x.shape[0], *reduced), kernel.shape, x.dtype):
        return winograd.conv(_blocks(stride, size, kernel.shape[0], x), _kernel_blocks(stride, kernel))
    return _conv_plain(stride, size, x, kernel)


def _has_fewer_products(stride: int, shape: tuple[int, int, int], kernel: tuple[int, int, int, int], dtype) -> bool:
    """Whether `winograd` is the faster form of the three products for a result of `shape` (B, h, w).

    It is not where the user asks for products of full precision, nor where the channels are few, the pictures small
    beside the tiles, or the kernel large beside the pictures, so that transforms cost more than they spare.
    """
    if jax.config.jax_default_matmul_precision in ("highest", "float32") or dtype != jnp.float32:
        return False
    batch, height, width = shape
    k, _, channels, features = kernel
    n = -(-k // stride)
    if n not in winograd.POINTS or min(stride**2 * channels, features) < MANY_CHANNELS:
        return False
    as_defined, points = height * width * k**2, stride**2 * winograd.points(n)
    return winograd.tiles((height, width)) * points <= FEWER * as_defined and batch * as_defined >= LARGER * points


def _blocks(stride: int, size: Size, k: int, x):
    """x, padded as `_conv` pads it, in blocks of stride x stride pixels as channels."""
    n = -(-k // stride)
    before = [_same(full, k, stride)[0] for full in size]
    after = [(-(-full // stride) + n - 1) * stride - full - b for full, b in zip(size, before, strict=True)]
    x = jnp.pad(x, ((0, 0), *zip(before, after, strict=True), (0, 0)))
    if stride == 1:
        return x
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // stride, stride, width // stride, stride, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // stride, width // stride, -1)


def _pixels(stride: int, size: Size, k: int, blocks):
    """The transpose of `_blocks`."""
    batch, height, width, _ = blocks.shape
    x = blocks.reshape(batch, height, width, stride, stride, -1).transpose(0, 1, 3, 2, 4, 5)
    return _crop(x.reshape(batch, height * stride, width * stride, -1), stride, size, k)


def _kernel_blocks(stride: int, kernel):
    """The kernel [n, n, stride * stride * C, O] of the same convolution of `_blocks`, n = k / stride rounded up."""
    if stride == 1:
        return kernel
    k, _, channels, features = kernel.shape
    n = -(-k // stride)
    kernel = jnp.pad(kernel, ((0, n * stride - k), (0, n * stride - k), (0, 0), (0, 0)))
    kernel = kernel.reshape(n, stride, n, stride, channels, features).transpose(0, 2, 1, 3, 4, 5)
    return kernel.reshape(n, n, stride * stride * channels, features)


def _kernel_pixels(stride: int, k: int, blocks):
    """The transpose of `_kernel_blocks`."""
    n, _, _, features = blocks.shape
    kernel = blocks.reshape(n, n, stride, stride, -1, features).transpose(0, 2, 1, 3, 4, 5)
    return kernel.reshape(n * stride, n * stride, -1, features)[:k, :k]


def _is_small(size: Size, k: int) -> bool:
    """Whether the smaller of the two pictures has fewer pixels than the kernel.

    XLA:CPU is slow there (4x4 pixels, kernel 5: 2.5 times the time of a matrix product), and when it swaps
    picture and kernel of a transpose because the kernel is the larger one, 300 times slower.
    """
    return size[0] * size[1] < k * k


def _patches(stride: int, size: Size, k: int, x):
    """The k x k patches of x that a convolution looks at, [B, H / stride, W / stride, k * k * C]."""
    x = jnp.pad(x, ((0, 0), *(_same(n, k, stride) for n in size), (0, 0)))
    down, right = (x.shape[axis] - k + 1 for axis in (1, 2))
    parts = [x[:, i : i + down : stride, j : j + right : stride] for i in range(k) for j in range(k)]
    return jnp.concatenate(parts, axis=-1)


def _conv_of_patches(stride: int, size: Size, x, kernel):
    patches = _patches(stride, size, kernel.shape[0], x)
    return lax.dot_general(patches, kernel.reshape(-1, kernel.shape[-1]), (((3,), (0,)), ((), ())))


def _transpose_plain(stride: int, size: Size, y, kernel):
    """By dilated input: zeros between the pixels of y, and the kernel turned around."""
    return _by_dilation(stride, size, y, kernel[::-1, ::-1].swapaxes(2, 3), DIMENSIONS)


def _by_dilation(stride: int, size: Size, y, turned, dimensions: tuple[str, str, str]):
    k = turned.shape[0]
    padding = []
    for full, reduced in zip(size, y.shape[1:3], strict=True):
        before = k - 1 - _same(full, k, stride)[0]
        padding.append((before, full + k - 2 - (reduced - 1) * stride - before))
    return lax.conv_general_dilated(
        y, turned, (1, 1), padding, lhs_dilation=(stride, stride), dimension_numbers=dimensions
    )


def _transpose_on_gpu(stride: int, size: Size, y, kernel):
    """cuDNN's derivative in x, which XLA:GPU sees in a turned kernel alone.

    With its last two axes exchanged by themselves it does not see one of a single channel, and multiplies by the zeros
    between the pixels of y. Where y is the smaller of the two it exchanges picture and kernel and does so too: 7.8
    times the products for 4x4 pixels, kernel 5, stride 2.
    """
    if _is_small(y.shape[1:3], kernel.shape[0]):
        return _transpose_by_product(stride, size, y, kernel)
    return _by_dilation(stride, size, y, lax.rev(kernel, (0, 1)), ("NHWC", "HWOI", "NHWC"))


def _kernel_product_on_gpu(stride: int, size: Size, k: int, x, y):
    """cuDNN's derivative in the kernel, which XLA:GPU takes for a convolution with the kernel y where y is no larger
    than k; with the zeros between its pixels that is 3.1 times the products for 4x4 pixels, kernel 5, stride 2."""
    if max(y.shape[1:3]) <= k:
        return _kernel_product_of_patches(stride, size, k, x, y)
    return _kernel_product_plain(stride, size, k, x, y)


def _kernel_product_plain(stride: int, size: Size, k: int, x, y):
    """A convolution over pictures whose "batch" is the channels and whose "channels" are the batch.

    The transposes are written out, because inside a compiled loop XLA:CPU does not bring a convolution into
    the one layout that it runs fast (jax-ml/jax#12868): there, `lax`'s own derivative took 34 times as long.
    """
    padding = []
    for full, reduced in zip(size, y.shape[1:3], strict=True):
        before = _same(full, k, stride)[0]
        padding.append((before, k + (reduced - 1) * stride - full - before))
    x, y = x.transpose(3, 1, 2, 0), y.transpose(1, 2, 0, 3)
    product = lax.conv_general_dilated(
        x, y, (1, 1), padding, rhs_dilation=(stride, stride), dimension_numbers=DIMENSIONS
    )
    return product.transpose(1, 2, 0, 3)


def _kernel_product_on_cpu(stride: int, size: Size, k: int, x, y):
    """The form that was measured to be the fastest for these shapes."""
    if x.shape[-1] <= FEW_CHANNELS or _is_small(y.shape[1:3], k):
        return _kernel_product_of_patches(stride, size, k, x, y)
    if _has_fewer_products(stride, y.shape[:3], (k, k, x.shape[-1], y.shape[-1]), x.dtype):
        blocks = winograd.kernel_product(_blocks(stride, size, k, x), y, -(-k // stride))
        return _kernel_pixels(stride, k, blocks)
    if stride == 1 and y.shape[-1] > FEW_CHANNELS:
        return _kernel_product_in_parts(size, k, 1, x, y)
    return _kernel_product_plain(stride, size, k, x, y)


def _kernel_product_in_parts(size: Size, k: int, groups: int, x, y):
    """The plain form for a part of the batch after the other, and in each of them for all groups of channels.

    XLA:CPU writes the patches of all pictures out before it multiplies; where they are larger than the cache, it is up
    to three times as slow ([16, 32, 32, 256], kernel 3: 340 ms at once, 120 ms in parts; jax 0.10).
    """
    batch, pixels = x.shape[0], y.shape[1] * y.shape[2]
    most = max(1, CACHE // (k * k * x.shape[-1] // groups * pixels * x.dtype.itemsize))
    together = next(n for n in range(min(most, batch), 0, -1) if batch % n == 0)
    product = partial(_each_group, partial(_kernel_product_plain, 1, size, k), groups)
    if together == batch:
        return product(x, y)

    def add(total, part):
        return total + product(*part), None

    split = tuple(a.reshape(batch // together, together, *a.shape[1:]) for a in (x, y))
    return lax.scan(add, jnp.zeros((k, k, x.shape[-1] // groups, y.shape[-1]), x.dtype), split)[0]


def _kernel_product_of_patches(stride: int, size: Size, k: int, x, y):
    """One matrix product, without the plain form's transposes of x and y.

    For few channels or small pictures: otherwise making the patches costs more than the product.
    """
    product = lax.dot_general(_patches(stride, size, k, x), y, (((0, 1, 2), (0, 1, 2)), ((), ())))
    return product.reshape(k, k, x.shape[-1], -1)


def _transpose_on_cpu(stride: int, size: Size, y, kernel):
    """The form that was measured to be the fastest for these shapes."""
    k, channels = kernel.shape[0], kernel.shape[2]
    if not _is_small(y.shape[1:3], k) and _has_fewer_products(stride, y.shape[:3], kernel.shape, y.dtype):
        return _pixels(stride, size, k, winograd.transpose(y, _kernel_blocks(stride, kernel)))
    if stride == 1 or any(n % stride for n in size) or k < stride:
        return _transpose_plain(stride, size, y, kernel)
    if channels <= FEW_CHANNELS or _is_small(y.shape[1:3], k):
        return _transpose_by_product(stride, size, y, kernel)
    if k % stride == 0:
        return _transpose_by_blocks(stride, size, y, kernel)
    return _transpose_by_phases(stride, size, y, kernel)


def _transpose_by_blocks(stride: int, size: Size, y, kernel):
    """One convolution of stride 1 to stride**2 times the channels, then depth to space.

    Needs k = n * stride. Cut the picture, padded as `_conv` pads it, into blocks of stride x stride pixels: a
    block depends on n x n pixels of y, so nothing is multiplied by an inserted zero.
    """
    k = kernel.shape[0]
    n = k // stride
    kernel = _kernel_blocks(stride, kernel)[::-1, ::-1].swapaxes(2, 3)
    blocks = lax.conv_general_dilated(y, kernel, (1, 1), [(n - 1, n - 1)] * 2, dimension_numbers=DIMENSIONS)
    return _pixels(stride, size, k, blocks)


def _transpose_by_phases(stride: int, size: Size, y, kernel):
    """stride**2 convolutions of stride 1, each of every stride-th tap, whose results are interleaved.

    For a k that is no multiple of the stride, where blocks would need a kernel padded with zeros. XLA:CPU multiplies
    by no zeros in the plain form, but has a slower routine for it than for its convolutions (jax 0.10, processor time
    on an EPYC core; y [16, 16, 16, 256], kernel [5, 5, 128, 256]: 1.6 times; [16, 8, 8, 512], [5, 5, 256, 512]: 1.3).
    """

    def taps(axis, phase):
        """The first tap that falls on this phase, and the padding of y along the axis."""
        ahead, first = divmod(phase + _same(size[axis], kernel.shape[0], stride)[0], stride)
        reach = len(range(first, kernel.shape[0], stride)) - 1
        return first, (reach - ahead, size[axis] // stride + ahead - y.shape[axis + 1])

    def phase(row, column):
        (i, rows), (j, columns) = taps(0, row), taps(1, column)
        part = kernel[i::stride, j::stride][::-1, ::-1].swapaxes(2, 3)
        return lax.conv_general_dilated(y, part, (1, 1), (rows, columns), dimension_numbers=DIMENSIONS)

    phases = [jnp.stack([phase(i, j) for j in range(stride)], axis=3) for i in range(stride)]
    return jnp.stack(phases, axis=2).reshape(y.shape[0], *size, -1)


def _transpose_by_product(stride: int, size: Size, y, kernel):
    """One matrix product gives every pixel's k x k contributions, which are shifted into place and added.

    For few channels or small pictures: otherwise moving the contributions costs more than the product.
    """
    k, _, channels, features = kernel.shape
    n = -(-k // stride)
    batch, rows, columns, _ = y.shape
    parts = lax.dot_general(y, kernel.reshape(-1, features), (((3,), (1,)), ((), ())))
    parts = parts.reshape(batch, rows, columns, k, k, channels)
    parts = jnp.pad(parts, ((0, 0),) * 3 + ((0, n * stride - k),) * 2 + ((0, 0),))
    parts = parts.reshape(batch, rows, columns, n, stride, n, stride, channels)
    parts = parts.transpose(3, 5, 0, 1, 4, 2, 6, 7)

    def shifted(i, j):
        return jnp.pad(parts[i, j], ((0, 0), (i, n - 1 - i), (0, 0), (j, n - 1 - j), (0, 0), (0, 0)))

    total = sum(shifted(i, j) for i in range(n) for j in range(n))
    full = total.reshape(batch, (rows + n - 1) * stride, (columns + n - 1) * stride, channels)
    return _crop(full, stride, size, k)


def _crop(padded, stride: int, size: Size, k: int):
    """Takes away the padding of the convolution."""
    top, left = (_same(n, k, stride)[0] for n in size)
    return padded[:, top : top + size[0], left : left + size[1]]


def _in_a_row(x):
    return x.reshape(-1, x.shape[-1])


def _pointwise_in_a_row(x, kernel):
    return (_in_a_row(x) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def _pointwise_kernel_product_in_a_row(x, y):
    return _in_a_row(x).T @ _in_a_row(y)


def _pointwise_kernel_product_plain(x, y):
    pixels = tuple(range(x.ndim - 1))
    return lax.dot_general(x, y, ((pixels, pixels), ((), ())))


def _grouped_plain(groups: int, x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=DIMENSIONS, feature_group_count=groups)


def _grouped_kernel_product_plain(k: int, groups: int, x, y):
    shape = (k, k, x.shape[-1] // groups, y.shape[-1])
    kernel = jax.ShapeDtypeStruct(shape, x.dtype)
    return jax.linear_transpose(lambda kernel: _grouped_plain(groups, x, kernel), kernel)(y)[0]


def _grouped_on_cpu(groups: int, x, kernel):
    return _each_group(partial(_conv_plain, 1, x.shape[1:3]), groups, x, kernel)


def _grouped_kernel_product_on_cpu(k: int, groups: int, x, y):
    size = x.shape[1:3]
    if min(x.shape[-1], y.shape[-1]) > FEW_CHANNELS * groups and not _is_small(size, k):
        return _kernel_product_in_parts(size, k, groups, x, y)
    return _each_group(partial(_kernel_product_on_cpu, 1, size, k), groups, x, y)


def _each_group(f: Callable, groups: int, *arrays):
    """f of each group of the last axis by itself, one after another: a few written out, which spares the transposes of
    the whole arrays that a compiled loop wants."""
    arrays = [a.reshape(*a.shape[:3], groups, -1) for a in arrays]
    if groups <= FEW_GROUPS:
        return jnp.concatenate([f(*(a[..., g, :] for a in arrays)) for g in range(groups)], axis=-1)
    parts = tuple(jnp.moveaxis(a, 3, 0) for a in arrays)
    product = jnp.moveaxis(lax.map(lambda group: f(*group), parts), 0, 3)
    return product.reshape(*product.shape[:3], -1)
