"""Small classifiers of digits and of garments, whose last hidden layer is a feature space for pictures like theirs.

Inception knows neither domain and costs a thousand times more. There is no agreed LeNet-FID, so a Frechet distance of
these features is a number of this package only, and compares only between equal weights: they are pinned by sha256.

The network: convolution 5x5 to 16 channels, convolution 5x5 to 32, dense to 64 (the features), dense to 10 (the
logits); strides of 2; leaky ReLU of slope 0.2, which leaves no unit dead as ReLU does (48 of 128 in a like network, and
then a singular covariance); no normalisation, so an example's features depend on nothing else in its batch. Each
feature has a variance of 1 over the pictures trained on, so 64 is the scale of a distance.

Trained by `python -m jaxgan.metrics.networks.train_classifier digits --seed 0`, and `garments`, which print the numbers
below (2 cores of an Intel Xeon, shared with other work, 44 s and 166 s; jax 0.10.2; 21 November 2026). Digits: 4,000
of mnist5k, the other 1,000 held out. Garments: Fashion-MNIST, 60,000 and the 10,000 of its test set.

    held out                                            digits          garments
    accuracy                                            98.6 %          90.4 %
    live features, rank of their covariance             64, 64          64, 64
    classifier score (10 splits)                        9.32 +- 0.15    7.87 +- 0.06
    the floor, real against real:
      Frechet distance to all trained on: N 250         1.35            1.98
        N 500                                           0.76            0.78
        N 1000                                          0.36            0.42
        N 2000, 5000, 10000                                             0.20, 0.086, 0.041
      Frechet distance between halves trained on        0.37 (2,000)    0.034 (30,000)
    against as many trained on: N                       1,000           10,000
      KID                                               -2.2e-3         -7.7e-4
      precision, recall (k 3)                           0.791, 0.806    0.814, 0.822
      density, coverage (k 5; coverage 0.969 expected)  0.946, 0.970    0.991, 0.972
    Frechet distance of damaged pictures:               2,500 to 2,500  10,000 to 60,000
      undamaged                                         0.41            0.041
      blur, sigma 0.5, 1, 2                             0.95, 5.8, 31   0.80, 7.1, 29
      noise, std 20, 40, 60 of 255                      1.4, 6.0, 14    2.1, 9.1, 17
      without 1, 2, 5 of the classes                    3.6, 7.9, 21    1.7, 4.8, 18

The floor depends on N on both sides, so a distance means something beside the floor of its own N only. The digits are
too few for slight damage: at 2,500 the floor is 43 %, 30 % and 12 % of the weakest blur, noise and loss above; it is
4.1 %, 4.3 % and 3.4 % at a blur of 1.25, noise of 50 and a loss of 3 classes.
"""

import hashlib
import io
import math
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.errors import ConfigError, DataError

FOLDER = pathlib.Path(__file__).parent
SIZE = 64  # of the features
SIDE = 28  # of the pictures
Params = dict[str, dict[str, jax.Array]]
Resize = Callable[[jax.Array, int], jax.Array]


class Classifier(NamedTuple):
    """Weights that come with this package."""

    sha256: str  # of the file
    class_names: tuple[str, ...]


KNOWN = {
    "digits": Classifier("38ed70d75df5499579ec769372088406c94cef00db0870e015752fbef3a5e886", tuple("0123456789")),
    "garments": Classifier(
        "d659fa8bd97d2896c90c760bbb9fce4c3143c5201c0d92e76619f23199bef489",
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}


def load(name: str) -> tuple[Params, str, tuple[str, ...]]:
    """The weights of `"digits"` or `"garments"`.

    Returns:
        The parameters for `apply`, the sha256 of their file, the names of the classes in the logits' order.

    Raises:
        ConfigError: there is no such classifier.
        DataError: the file is missing or is not the pinned one.
    """
    if name not in KNOWN:
        raise ConfigError(f"no classifier {name!r}; there are {', '.join(KNOWN)}")
    known = KNOWN[name]
    file = FOLDER / f"{name}.npz"
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}, a part of jaxgan, cannot be read: {error}. Install jaxgan again.")
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != known.sha256:
        raise DataError(
            f"{file} is damaged or replaced: its sha256 is {sha256}, not {known.sha256}. Distances of other features "
            "would not compare. Install jaxgan again."
        )
    params: Params = {}
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        for path in arrays.files:  # such as "conv1/kernel"
            layer, kind = path.split("/")
            params.setdefault(layer, {})[kind] = jnp.asarray(arrays[path], jnp.float32)
    return params, sha256, known.class_names


def apply(params: Params, pictures: jax.Array, resize: Resize | None = None) -> dict[str, jax.Array]:
    """Features and logits of pictures; may be jitted.

    Args:
        params: from `load`.
        pictures: uint8 `[B, 28, 28, 1]`, bright on black, as the data sets have them.
        resize: one of `jaxgan.metrics.resize`, for pictures of another size.

    Returns:
        `"features"` float32 `[B, 64]` and `"logits"` float32 `[B, 10]`.

    Raises:
        ConfigError: the pictures have another size or colours.
        TypeError: they are not uint8.
    """
    return _see(params, _brought_to_size(pictures, 1, resize))


def apply_stacked(params: Params, pictures: jax.Array, resize: Resize | None = None) -> dict[str, jax.Array]:
    """Features and joint logits of pictures that show a digit in each of three channels (Stacked-MNIST).

    Args:
        params: from `load("digits")`.
        pictures: uint8 `[B, 28, 28, 3]`.
        resize: as for `apply`.

    Returns:
        `"features"` float32 `[B, 192]`, those of the channels side by side, and `"logits"` float32 `[B, 1000]`: of the
        digits a, b, c together, as of independent ones, the sum of their own logits, at 100 a + 10 b + c.

    Raises:
        ConfigError: the pictures have another size or colours.
        TypeError: they are not uint8.
    """
    pictures = _brought_to_size(pictures, 3, resize)
    single = jnp.moveaxis(pictures, -1, 1).reshape(-1, SIDE, SIDE, 1)
    found = {name: x.reshape(-1, 3, x.shape[-1]) for name, x in _see(params, single).items()}
    a, b, c = jnp.moveaxis(found["logits"], 1, 0)
    joint = a[:, :, None, None] + b[:, None, :, None] + c[:, None, None, :]
    return {"features": found["features"].reshape(len(pictures), -1), "logits": joint.reshape(len(pictures), -1)}


def _brought_to_size(pictures, channels, resize):
    sized = pictures if resize is None or pictures.ndim != 4 else resize(pictures, SIDE)
    if sized.ndim != 4 or sized.shape[1:] != (SIDE, SIDE, channels):
        kind = "grey pictures" if channels == 1 else "pictures of three digits"
        raise ConfigError(
            f"the digit and garment classifiers take {kind} of 28x28, [B, 28, 28, {channels}], not {pictures.shape}; "
            "choose other features for these pictures, or for ones of another size a resize (config.eval.resize, "
            "--resize)"
        )
    if pictures.dtype != jnp.uint8:
        raise TypeError(f"pictures must be uint8, 0 to 255, not {pictures.dtype}")
    return sized.astype(jnp.float32)


def _see(params, pictures):
    return forward(params, pictures / 127.5 - 1.0)


def forward(params: Params, x: jax.Array) -> dict[str, jax.Array]:
    """`apply` of pictures that are float32 in [-1, 1] already."""
    for layer in ("conv1", "conv2"):
        x = jax.nn.leaky_relu(_convolution(params[layer], x), 0.2)
    features = jax.nn.leaky_relu(_dense(params["dense"], x.reshape(len(x), math.prod(x.shape[1:]))), 0.2)
    return {"features": features, "logits": _dense(params["logits"], features)}


def init(key: jax.Array) -> Params:
    """Random weights: He et al., Delving Deep into Rectifiers, 2015; biases 0."""
    shapes = {"conv1": (5, 5, 1, 16), "conv2": (5, 5, 16, 32), "dense": (7 * 7 * 32, SIZE), "logits": (SIZE, 10)}
    keys = jax.random.split(key, len(shapes))
    normal = jax.nn.initializers.he_normal()
    return {
        layer: {"kernel": normal(k, shape), "bias": jnp.zeros(shape[-1])}
        for k, (layer, shape) in zip(keys, shapes.items(), strict=True)
    }


# At full precision everywhere: with an accelerator's default the features, and so the distances, would be others.
def _convolution(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    x = jax.lax.conv_general_dilated(
        x, params["kernel"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
    )
    return x + params["bias"]


def _dense(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return jnp.matmul(x, params["kernel"], precision="highest") + params["bias"]
