"""The networks that metrics see pictures through, by name, and their application to whole sets of pictures.

| name | features | pictures | weights |
|---|---|---|---|
| `"inception"` | 2048, after the last average pool | any size, grey or colour | a file that the user names |
| `"efflite0"` | 1280, after the last average pool | any size, grey or colour | in a package that the user installs |
| `"digits"`, `"garments"` | the last hidden layer of a small classifier | grey, 28x28 or resized | in this package |
| `"stacked_digits"` | `"digits"` of each channel | the same, a digit in each of three channels | in this package |
| `"raw"` | the pixels / 255, flattened | any | none |

A number depends on the network, its weights, the resize and the precision; `Features` carries them all for the record.
Only distances of `"inception"` are FID and KID as papers report them, and only with the published weights. That of
`"efflite0"` is FD-EffLite0, see `jaxgan.metrics.networks.efflite0`.
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import Partial

from jaxgan.errors import ConfigError, DataError
from jaxgan.metrics import resize as resizing
from jaxgan.metrics import weights as weight_files
from jaxgan.metrics.networks import inception

INCEPTION_VARIABLE = "JAXGAN_INCEPTION_WEIGHTS"
WHERE_FROM = (
    "Nothing is downloaded for you. Any of these files will do: pt_inception-2015-12-05-6726825d.pth, from the release "
    "fid_weights of github.com/mseitzer/pytorch-fid; weights-inception-2015-12-05-6726825d.pth, from the release "
    "v0.2.0 of github.com/toshas/torch-fidelity; classify_image_graph_def.pb, out of inception-2015-12-05.tgz from "
    "download.tensorflow.org/models/image/imagenet."
)
CLASSIFIERS = ("digits", "garments")
STACKED = "stacked_digits"
NAMES = ("inception", "efflite0", *CLASSIFIERS, STACKED, "raw")
AXIS = "batch"


class Features(NamedTuple):
    """A feature network with everything that its numbers depend on.

    `apply` takes uint8 pictures `[B, H, W, C]` and gives `"features"` float32 `[B, size]` and, if there are classes,
    `"logits"` float32 `[B, K]`. It is a `jax.tree_util.Partial`, so the weights can enter a jitted function as
    arguments and need not be compiled into it.
    """

    name: str
    size: int  # of the features; 0 if they are as many as the pictures have numbers
    weights_sha256: str  # of the file, 64 hexadecimal digits; "" without weights
    resize: str  # "tf1", "torch", "clean" or "none"
    dtype: str  # of the computation
    apply: Callable[[jax.Array], dict[str, jax.Array]]
    class_names: tuple[str, ...]  # in the logits' order; () without classes


def load_features(name: str, *, weights: str | None = None, resize: str | None = None) -> Features:
    """A feature network by its name.

    Args:
        name: one of `NAMES`.
        weights: for `"inception"`: the file, as `.pth`, `.pb` or `.npz`; by default the one that the environment
            variable JAXGAN_INCEPTION_WEIGHTS names.
        resize: for `"inception"`: `"tf1"` (the default; the original FID, torch-fidelity), `"torch"` (pytorch-fid, with
            its scaling) or `"clean"` (clean-fid), see `jaxgan.metrics.resize`. For `"efflite0"`: the same, with one
            scaling, `"clean"` by default. For the small classifiers: the same, to 28x28, `"none"` by default. `"raw"`
            resizes nothing.

    Returns:
        The network. Inception's logits are those without the last bias, as every reference takes them for the Inception
        Score; its classes, and those of EfficientNet-Lite0, are named by their numbers, since the files hold no names.

    Raises:
        ConfigError: an unknown name, or arguments that do not fit it.
        DataError: a file of weights is missing, damaged, hostile or of another network; a package is not installed.
    """
    if name == "inception":
        return _inception(weights or os.environ.get(INCEPTION_VARIABLE), "tf1" if resize is None else resize)
    if name not in NAMES:
        raise ConfigError(f"unknown features {name!r}; known: {', '.join(NAMES)}")
    if weights is not None:
        raise ConfigError(f"features {name!r} take no file of weights, but {weights!r} is given")
    if name == "efflite0":
        return _efflite0("clean" if resize is None else resize)
    if name == "raw":
        if resize not in (None, "none"):
            raise ConfigError(f"features {name!r} resize nothing, but resize {resize!r} is given")
        return Features(name, 0, "", "none", "float32", Partial(_raw), ())
    return _classifier(name, "none" if resize is None else resize)


def extract(
    features: Features,
    pictures: np.ndarray,
    *,
    batch_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> dict[str, np.ndarray]:
    """The features of a set of pictures, batch by batch over the local devices, compiled once.

    Args:
        features: the network.
        pictures: uint8 `[N, H, W, C]`, N >= 1; anything that can be sliced will do, such as a memory map.
        batch_size: pictures at a time on all devices together, rounded up to a multiple of their number; by default
            as many as suit the network and the devices. The last batch is filled up and its surplus cut.
        devices: all local ones by default.
        progress: called as `progress(done, N)` after every batch.

    Returns:
        float32 arrays with N rows: `"features"`, and `"logits"` if the network has classes.

    Raises:
        ValueError: the pictures are not uint8 `[N, H, W, C]`, or there are none; a batch of less than one.
    """
    shape = np.shape(pictures)
    if len(shape) != 4 or pictures.dtype != np.uint8 or not shape[0]:
        raise ValueError(f"pictures must be uint8 [N, H, W, C] with N >= 1; these are {pictures.dtype} {shape}")
    devices = tuple(devices or jax.local_devices())
    batch_size = _batch_size(features, devices[0].platform) if batch_size is None else batch_size
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
    mesh = Mesh(devices, (AXIS,))
    total = shape[0]
    batch = -(-min(batch_size, total) // len(devices)) * len(devices)
    apply = features.apply if isinstance(features.apply, Partial) else Partial(features.apply)
    apply = jax.device_put(apply, NamedSharding(mesh, PartitionSpec()))
    step = _step(mesh)

    rows: list[dict[str, np.ndarray]] = []

    def fetch(start, out):
        rows.append({name: np.asarray(x)[: total - start] for name, x in out.items()})
        if progress is not None:
            progress(min(start + batch, total), total)

    waiting = None  # one batch ahead, so that the devices work while the host fetches
    for start in range(0, total, batch):
        part = np.asarray(pictures[start : start + batch])
        part = np.pad(part, [(0, batch - len(part)), (0, 0), (0, 0), (0, 0)])
        out = step(apply, jax.device_put(part, NamedSharding(mesh, PartitionSpec(AXIS))))
        if waiting is not None:
            fetch(*waiting)
        waiting = (start, out)
    fetch(*waiting)
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _batch_size(features, platform):
    # Layers of few enlarged pictures stay in a processor's cache: 64 at once take 1.4 times as long with Inception.
    enlarged = features.resize != "none" and features.name not in (*CLASSIFIERS, STACKED)
    return 8 if enlarged and platform == "cpu" else 64


@functools.cache
def _step(mesh):
    # Every device computes its own part: no batch may depend on how it is split.
    return jax.jit(
        jax.shard_map(
            lambda apply, x: apply(x),
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(AXIS),
        )
    )


def _raw(pictures):
    return {"features": pictures.reshape(len(pictures), -1).astype(jnp.float32) / 255.0}


def _inception(path, resize):
    _check_resize("inception", resize)
    if not path:
        raise DataError(
            "the features 'inception' need a file of weights: name it in the configuration or in the environment "
            f"variable {INCEPTION_VARIABLE}. {WHERE_FROM}"
        )
    if not os.path.isfile(path):
        raise DataError(f"there is no file of Inception weights {path}. {WHERE_FROM}")
    read = weight_files.read_weights(path)
    params = jax.tree.map(jnp.asarray, weight_files.inception_params(read.arrays, path))
    if read.sha256 not in weight_files.PUBLISHED:
        logging.warning(
            "%s, sha256 %s, is not known as a published file of Inception weights; numbers compare with others only if "
            "its weights are the same",
            path,
            read.sha256,
        )
    apply = Partial(_inception_apply(resize), params)
    classes = tuple(map(str, range(inception.CLASSES)))
    return Features("inception", inception.FEATURES, read.sha256, resize, "float32", apply, classes)


@functools.cache  # one function per convention, so that loading again compiles nothing again
def _inception_apply(resize):
    scale = inception.scale_torch if resize == "torch" else inception.scale_tf

    def apply(params, pictures):
        x = resizing.CONVENTIONS[resize](_coloured("inception", pictures), inception.SIZE)
        found = inception.apply(params, scale(x))
        return {"features": found["2048"], "logits": found["logits_unbiased"]}

    return apply


def _efflite0(resize):
    from jaxgan.metrics.networks import efflite0

    _check_resize("efflite0", resize)
    apply = Partial(_efflite0_apply(resize), efflite0.variables_of(efflite0.read_arrays()))
    classes = tuple(map(str, range(efflite0.CLASSES)))
    return Features("efflite0", efflite0.FEATURES, efflite0.SHA256, resize, "float32", apply, classes)


@functools.cache
def _efflite0_apply(resize):
    from jaxgan.metrics.networks import efflite0

    def apply(variables, pictures):
        x = resizing.CONVENTIONS[resize](_coloured("efflite0", pictures), efflite0.SIZE)
        return efflite0.apply(variables, efflite0.scale(x))

    return apply


def _classifier(name, resize):
    from jaxgan.metrics.networks import classifier

    stacked = name == STACKED
    params, sha256, class_names = classifier.load("digits" if stacked else name)
    if stacked:
        class_names = tuple(f"{mode:03}" for mode in range(1000))
    apply = classifier.apply_stacked if stacked else classifier.apply
    if resize != "none":
        _check_resize(name, resize)
        apply = _resized(apply, resize)
    size = (3 if stacked else 1) * classifier.SIZE
    return Features(name, size, sha256, resize, "float32", Partial(apply, params), class_names)


@functools.cache
def _resized(apply, resize):
    return functools.partial(apply, resize=resizing.CONVENTIONS[resize])


def _check_resize(name, resize):
    if resize not in resizing.CONVENTIONS:
        known = ", ".join(resizing.CONVENTIONS)
        raise ConfigError(f"unknown resize {resize!r} for the features {name!r}; known: {known}")


def _coloured(name, pictures):
    if pictures.shape[-1] == 1:
        pictures = jnp.repeat(pictures, 3, axis=-1)
    if pictures.shape[-1] != 3:
        raise ConfigError(f"the features {name!r} take grey or colour pictures, not {pictures.shape}")
    return pictures
