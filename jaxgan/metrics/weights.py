"""Network weights from files that other programs wrote, without those programs: PyTorch's, TensorFlow's and ours.

A file is data: nothing in it is executed. PyTorch's formats hold a pickle, which may name any function of Python; the
reader here admits the handful of names that describe tensors and refuses the file for any other.

Formats, told apart by their content:
- `.pth`, a state_dict as `torch.save` writes it: the zip format (PyTorch 1.6 and later) and the one before;
- `.pb`, a frozen TensorFlow graph: its Const nodes of numbers;
- `.npz`, named arrays; `write_npz` writes Inception's so.
"""

import collections
import functools
import hashlib
import io
import math
import pathlib
import pickle
import zipfile
from typing import Any, NamedTuple

import numpy as np

from jaxgan.errors import DataError
from jaxgan.metrics.networks.inception import CLASSES, FEATURES, LAYERS, Params, shapes

# By sha256 of the file, whole.
PUBLISHED = {
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2": (
        "Inception of 2015-12-05 as converted for pytorch-fid and torch-fidelity"
    ),
}
# PyTorch's convention: a name that ends so promises a file whose sha256 begins so.
_PROMISE = "-6726825d.pth"

_MOST_BYTES = 2**31  # of one array or one archive; Inception's weights are 96 MB
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle in a file of the older format
_LEGACY_PROTOCOL = 1001
_STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_TF_TYPES = {1: "f4", 2: "f8", 3: "i4", 9: "i8"}  # DataType of tensorflow/core/framework/types.proto


class Weights(NamedTuple):
    """Arrays of a file by name."""

    arrays: dict[str, np.ndarray]
    sha256: str  # of the file, 64 hexadecimal digits


def read_weights(path: str) -> Weights:
    """All arrays of a `.pth`, `.pb` or `.npz` file, equal to the last bit to what its own program reads.

    Raises:
        DataError: the file is missing, damaged, of another format, or holds more than arrays.
    """
    try:
        content = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the weights {path}: {error.strerror or error}")
    sha256 = hashlib.sha256(content).hexdigest()
    if str(path).endswith(_PROMISE) and sha256 not in PUBLISHED:
        raise DataError(
            f"{path} is damaged or not what its name promises: its sha256 is {sha256}. Fetch it again; if you made it "
            "yourself, give it another name."
        )
    read = _reader(content)
    if read is None:
        raise DataError(f"{path} is none of the known formats of weights: .pth (PyTorch), .pb (TensorFlow), .npz")
    try:
        return Weights(read(content), sha256)
    except _Refused as error:
        raise DataError(f"{path} is refused: {error}")
    except Exception as error:  # damaged in whatever way: every parser has its own errors for that
        raise DataError(f"{path} is damaged and cannot be read: {type(error).__name__}: {error}")


def inception_params(arrays: dict[str, np.ndarray], path: str = "the file") -> Params:
    """Arrays by PyTorch's, TensorFlow's or our names as float32 parameters of `networks.inception`.

    Extra arrays, such as counters of batches, are left out.

    Raises:
        DataError: an array is missing or has another shape than the network of 2015-12-05.
    """
    params = {}
    for layer, leaves in shapes().items():
        params[layer] = {}
        for leaf, shape in leaves.items():
            name, order = _name_in(arrays, layer, leaf)
            if name not in arrays:
                raise DataError(
                    f"{path} is not Inception-v3 of 2015-12-05: there is no array {name!r} in it (it has {len(arrays)})"
                )
            x = arrays[name]
            x = x.transpose(order) if x.ndim == len(order) else x
            if x.shape != shape:
                raise DataError(
                    f"{path} is not Inception-v3 of 2015-12-05: {name!r} has shape {arrays[name].shape}; this is the "
                    f"network with {CLASSES} classes and {FEATURES} features, for which {layer} {leaf} is {shape}"
                )
            params[layer][leaf] = np.ascontiguousarray(x, np.float32)
    return params


def write_npz(path: str, params: Params) -> None:
    """Inception's parameters as an `.npz` that `read_weights` and `inception_params` read back."""
    np.savez(path, **{f"{layer}.{leaf}": x for layer, leaves in params.items() for leaf, x in leaves.items()})


def _name_in(arrays, layer, leaf):
    """What a file calls a parameter, and how the axes of its array are ordered into ours."""
    kernel = leaf == "kernel"
    first = next(iter(LAYERS))
    if f"{first}.kernel" in arrays:
        return f"{layer}.{leaf}", range(4 if kernel and layer != "fc" else 2 if kernel else 1)
    if f"{LAYERS[first].tf}/conv2d_params" in arrays:
        if layer == "fc":
            return ("softmax/weights", (0, 1)) if kernel else ("softmax/biases", (0,))
        own = {"kernel": "conv2d_params", "scale": "gamma", "bias": "beta", "mean": "moving_mean"}.get(
            leaf, "moving_variance"
        )
        scope = LAYERS[layer].tf
        return (f"{scope}/{own}", (0, 1, 2, 3)) if kernel else (f"{scope}/batchnorm/{own}", (0,))
    if layer == "fc":
        return ("fc.weight", (1, 0)) if kernel else ("fc.bias", (0,))
    if kernel:
        return f"{layer}.conv.weight", (2, 3, 1, 0)
    own = {"scale": "weight", "mean": "running_mean", "var": "running_var"}.get(leaf, leaf)
    return f"{layer}.bn.{own}", (0,)


class _Refused(Exception):
    """The file is sound and holds what a file of weights has no business to hold."""


def _reader(content):
    if content[:4] == b"PK\x03\x04":
        return _read_zip
    # The magic number as a pickle, by protocol 2 as `torch.save` has always written it.
    if content[:4] == b"\x80\x02\x8a\x0a":
        return _read_legacy
    if content[:1] == b"\x0a":  # a GraphDef begins with a node
        return _read_graph
    return None


def _read_zip(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(info.file_size for info in archive.infolist()) > _MOST_BYTES:
            raise _Refused("it unpacks to more than 2 GB")
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) == 1:
            return _read_pth(archive, pickles[0].removesuffix("data.pkl"))
    if not names or not all(name.endswith(".npy") for name in names):
        raise _Refused("it is a zip file of something else than a state_dict or arrays")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _read_pth(archive, prefix):
    tree = _Unpickler(io.BytesIO(archive.read(f"{prefix}data.pkl"))).load()
    order = "<"
    if f"{prefix}byteorder" in archive.namelist():
        order = {b"little": "<", b"big": ">"}[archive.read(f"{prefix}byteorder").strip()]

    @functools.cache
    def data(key):
        return archive.read(f"{prefix}data/{key}")

    return _resolve(tree, order, data)


def _read_legacy(content):
    file = io.BytesIO(content)
    magic, protocol, system, tree, keys = (_Unpickler(file).load() for _ in range(5))
    if magic != _LEGACY_MAGIC or protocol != _LEGACY_PROTOCOL:
        raise _Refused("it is a pickle, but not one of PyTorch's files")
    sizes = {tensor.storage.key: np.dtype(tensor.storage.dtype).itemsize for tensor in _tensors(tree).values()}
    order = "<" if system["little_endian"] else ">"
    found = {}
    for key in keys:  # after the pickles, the storages: a count and that many numbers each
        count = int.from_bytes(file.read(8), "little" if order == "<" else "big")
        if not isinstance(key, str) or key not in sizes:
            raise _Refused("it holds numbers that belong to no tensor")
        found[key] = file.read(count * sizes[key])
    return _resolve(tree, order, found.__getitem__)


class _Storage(NamedTuple):
    """Where the numbers of a tensor lie."""

    dtype: str
    key: str
    offset: int = 0


class _Tensor(NamedTuple):
    """A tensor whose numbers are yet to be read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle._Unpickler):
    """Reads the description of tensors, and refuses everything else that a pickle can name.

    Python's own and not the one in C, in which nine bytes can claim 64 GB for a list of things to remember.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]  # a string: there is nothing to call
        # New functions each time: a pickle may set attributes of what it is given.
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *rest: _rebuild_tensor(storage, offset, shape, strides)
        if module == "torch._utils" and name == "_rebuild_parameter":
            return lambda tensor, *rest: tensor
        if module == "torch" and name.endswith("Storage"):
            raise _Refused(f"its numbers are a {name}, for which NumPy has no type; save it again after .float()")
        raise _Refused(
            f"it asks for {module}.{name}, which weights do not need. A state_dict of plain tensors is needed, as "
            "torch.save(model.state_dict(), file) writes it; a file that asks for more could run any program."
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, _, *view = pid
        # Not shown: what stands there instead may be nested so that its text has any length.
        if kind != "storage" or dtype not in _STORAGES.values() or not isinstance(key, str):
            raise _Refused("it refers to something that is no storage of numbers")
        if view and view[0] is not None:  # only in the older format: a part of another storage
            _, offset, _ = view[0]
            return _Storage(dtype, key, int(offset))
        return _Storage(dtype, key)


def _rebuild_tensor(storage, offset, shape, strides):
    if not isinstance(storage, _Storage):
        raise _Refused("a tensor in it has no storage")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _tensors(tree):
    if not isinstance(tree, dict) or not all(
        isinstance(name, str) and isinstance(x, _Tensor) for name, x in tree.items()
    ):
        raise _Refused("it is no state_dict: something else than tensors by name is in it")
    return tree


def _resolve(tree, order, data):
    """The arrays of a state_dict whose storages' bytes `data` gives by key."""
    arrays = {}
    for name, (storage, offset, shape, strides) in _tensors(tree).items():
        dtype = np.dtype(storage.dtype).newbyteorder(order)
        numbers = np.frombuffer(data(storage.key), dtype)
        start, count = storage.offset + offset, math.prod(shape)
        last = start + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        # More entries than numbers would be an expanded tensor: a few bytes that unpack to any size.
        if min(start, *shape, *strides, 0) < 0 or count > len(numbers) or (count and last >= len(numbers)):
            raise ValueError(f"tensor {name!r} of shape {shape} reaches beyond its {len(numbers)} numbers")
        steps = [stride * dtype.itemsize for stride in strides]
        view = np.lib.stride_tricks.as_strided(numbers[start:], shape, steps, writeable=False)
        arrays[name] = np.array(view, dtype.newbyteorder("="), order="C")
    return arrays


def _read_graph(content):
    """The Const nodes of a GraphDef (tensorflow/core/framework/{graph,node_def,attr_value,tensor}.proto)."""
    arrays = {}
    for field, node in _fields(memoryview(content)):
        if field != 1:  # library, versions
            continue
        name, op, tensor = "", "", None
        for field, value in _fields(node):  # noqa: PLW2901 -- the outer one has been looked at
            if field == 1:
                name = bytes(value).decode()
            elif field == 2:
                op = bytes(value).decode()
            elif field == 5:  # attr: a map of names to values
                entry = dict(_fields(value))
                if bytes(entry.get(1, b"")) == b"value" and 2 in entry:
                    tensor = dict(_fields(entry[2])).get(8)
        if op == "Const" and tensor is not None:
            array = _tensor_proto(tensor)
            if array is not None:
                arrays[name] = array
    if not arrays:
        raise _Refused("it is no TensorFlow graph with weights: there is no constant in it")
    return arrays


def _tensor_proto(tensor):
    kind, shape, content, numbers = 0, (), None, []
    for field, value in _fields(tensor):
        if field == 1:
            kind = value
        elif field == 2:
            sizes = (dict(_fields(dim)).get(1, 0) for number, dim in _fields(value) if number == 2)
            shape = tuple(sizes)
        elif field == 4:
            content = bytes(value)
        elif field in (5, 6, 7, 10):  # float_val, double_val, int_val, int64_val: packed or one by one
            numbers.append((field, value))
    if kind not in _TF_TYPES:
        return None  # strings, booleans: none of the weights
    dtype = np.dtype(_TF_TYPES[kind]).newbyteorder("<")
    count = math.prod(shape)
    if count * dtype.itemsize > _MOST_BYTES:
        raise _Refused(f"it holds a tensor of shape {shape}")
    if content is not None:
        flat = np.frombuffer(content, dtype)
    else:
        flat = np.array([x for field, value in numbers for x in _numbers(field, value)], dtype)
        if 0 < len(flat) < count:  # TensorFlow leaves out what repeats the last one
            flat = np.concatenate([flat, np.full(count - len(flat), flat[-1])])
    return flat.reshape(shape).astype(dtype.newbyteorder("="))


def _numbers(field, value):
    if field in (5, 6):
        return np.frombuffer(value, "<f4" if field == 5 else "<f8")
    if isinstance(value, int):
        return [_signed(value)]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(_signed(number))
    return found


def _signed(number):
    return number - 2**64 if number >= 2**63 else number


def _fields(message):
    """(number, value) of each field of a protocol buffer: an int of a varint, else the bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + size > len(message):
            raise ValueError(f"{at + size - len(message)} bytes are missing")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message, at):
    number = shift = 0
    while True:
        if at >= len(message):
            raise ValueError("it ends within a number")
        byte = message[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
        if shift > 63:
            raise ValueError(f"a number of more than 64 bits at byte {at}")
