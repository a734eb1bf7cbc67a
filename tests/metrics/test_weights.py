"""Readers of foreign files: exact for sound ones, and a DataError without any effect for everything else.

Files of PyTorch's and what PyTorch reads in them are in goldens_inception.npz, see inception_goldens.py; TensorFlow's
graphs are written with its own protocol buffers, as tensorboardX carries them.
"""

import hashlib
import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from tensorboardX.proto.graph_pb2 import GraphDef

from jaxgan.errors import DataError
from jaxgan.metrics import weights
from jaxgan.metrics.networks.inception import LAYERS, shapes
from jaxgan.metrics.weights import inception_params, read_weights, write_npz
from tests.metrics.inception_goldens import PATH, random_state_dict

GOLDENS = np.load(PATH)
TENSORS = {name.removeprefix("tensor/"): GOLDENS[name] for name in GOLDENS.files if name.startswith("tensor/")}
FILES = {kind: GOLDENS[f"file/{kind}"].tobytes() for kind in ("zip", "legacy")}


@pytest.fixture
def read(tmp_path):
    """Reads bytes as a file."""

    def call(content, name="weights.bin"):
        (tmp_path / name).write_bytes(content)
        return read_weights(str(tmp_path / name))

    return call


@pytest.fixture
def refuses(read):
    """That a file is refused; the message."""

    def call(content, name="weights.bin"):
        with pytest.raises(DataError) as caught:
            read(content, name)
        assert name in str(caught.value)
        return str(caught.value)

    return call


def repacked(replaced, content=FILES["zip"]):
    """A zip file with some of its records replaced, by the ends of their names."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            end = name.split("/", 1)[1]
            new.writestr(name, replaced.get(end, old.read(name)))
    return out.getvalue()


def records():
    with zipfile.ZipFile(io.BytesIO(FILES["zip"])) as archive:
        return {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("kind", FILES)
def test_pytorchs_files_are_read_as_pytorch_reads_them(read, kind):
    found = read(FILES[kind])
    assert found.sha256 == hashlib.sha256(FILES[kind]).hexdigest()
    assert found.arrays.keys() == TENSORS.keys()
    for name, expected in TENSORS.items():
        x = found.arrays[name]
        assert (x.dtype, x.shape) == (expected.dtype, expected.shape), name
        assert x.tobytes() == expected.tobytes(), name


def test_a_file_of_the_other_byte_order_holds_the_same_numbers(read):
    """Only the storages that are one array are turned here; those of one byte have no order."""
    whole = ("weight", "bias", "double", "half", "long", "int")
    names = {}  # of the records that hold them, in the order of the state_dict
    for key, (name, _) in enumerate([item for item in TENSORS.items() if item[0] != "transposed"]):
        names[f"data/{key}"] = name
    old = records()
    turned = {
        record: np.frombuffer(old[record], TENSORS[name].dtype).byteswap().tobytes()
        for record, name in names.items()
        if name in whole
    }
    found = read(repacked({"byteorder": b"big", **turned})).arrays
    for name in whole:
        assert found[name].tobytes() == TENSORS[name].tobytes(), name


def test_arrays_come_back_from_our_own_format(tmp_path):
    params = {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "b": {"bias": np.float32([1])}}
    write_npz(str(tmp_path / "own.npz"), params)
    found = read_weights(str(tmp_path / "own.npz")).arrays
    assert found.keys() == {"a.kernel", "b.bias"}
    assert np.array_equal(found["a.kernel"], params["a"]["kernel"])


def graph():
    """Every way in which TensorFlow may write a constant, and what should not be read."""
    built, expected = GraphDef(), {}

    def add(name, kind, shape, op="Const", **values):
        node = built.node.add(name=name, op=op)
        node.attr["dtype"].type = kind
        tensor = node.attr["value"].tensor
        tensor.dtype = kind
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)
        for field, value in values.items():
            if field == "tensor_content":
                tensor.tensor_content = value
            else:
                getattr(tensor, field).extend(value)

    numbers = np.random.RandomState(0).standard_normal((2, 3, 4)).astype(np.float32)
    add("content", 1, (2, 3, 4), tensor_content=numbers.tobytes())
    expected["content"] = numbers
    add("list", 1, (6,), float_val=numbers.ravel()[:6])
    expected["list"] = numbers.ravel()[:6]
    add("splat", 1, (2, 2), float_val=[2.5])
    expected["splat"] = np.full((2, 2), 2.5, np.float32)
    add("scalar", 1, (), float_val=[-1.0])
    expected["scalar"] = np.float32(-1)
    add("ends alike", 1, (4,), float_val=[1, 2])
    expected["ends alike"] = np.float32([1, 2, 2, 2])
    add("double", 2, (2,), double_val=[1e-300, 3])
    expected["double"] = np.array([1e-300, 3])
    add("int", 3, (3,), int_val=[-1, 300, 2**31 - 1])
    expected["int"] = np.int32([-1, 300, 2**31 - 1])
    add("long", 9, (2,), int64_val=[-(2**40), 7])
    expected["long"] = np.int64([-(2**40), 7])
    add("empty", 1, (0, 5))
    expected["empty"] = np.zeros((0, 5), np.float32)
    add("string", 7, (1,), string_val=[b"a name"])
    add("placeholder", 1, (1,), op="Placeholder", float_val=[1])
    built.node.add(name="product", op="MatMul", input=["list", "splat"])
    built.versions.producer = 8
    return built.SerializeToString(), expected


def test_constants_of_a_tensorflow_graph_are_read(read):
    content, expected = graph()
    found = read(content, "graph.pb").arrays
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        assert (found[name].dtype, found[name].shape) == (x.dtype, x.shape), name
        assert np.array_equal(found[name], x), name


# Inception by three schemes of names


@pytest.fixture(scope="module")
def state():
    return random_state_dict(1)


def in_tensorflows_names(state):
    """From PyTorch's, the axes turned."""
    found = {"softmax/weights": state["fc.weight"].T, "softmax/biases": state["fc.bias"]}
    for name, layer in LAYERS.items():
        found[f"{layer.tf}/conv2d_params"] = state[f"{name}.conv.weight"].transpose(2, 3, 1, 0)
        for theirs, ours in (
            ("gamma", "weight"),
            ("beta", "bias"),
            ("moving_mean", "running_mean"),
            ("moving_variance", "running_var"),
        ):
            found[f"{layer.tf}/batchnorm/{theirs}"] = state[f"{name}.bn.{ours}"]
    return found


def test_the_three_schemes_of_names_give_the_same_parameters(state):
    params = inception_params(state)
    from_tf = inception_params(in_tensorflows_names(state))
    own = {f"{layer}.{leaf}": x for layer, leaves in params.items() for leaf, x in leaves.items()}
    from_own = inception_params(own)
    for layer, leaves in shapes().items():
        assert params[layer].keys() == leaves.keys()
        for leaf, shape in leaves.items():
            x = params[layer][leaf]
            assert x.shape == shape and x.dtype == np.float32
            assert np.array_equal(x, from_tf[layer][leaf]) and np.array_equal(x, from_own[layer][leaf])
    assert np.array_equal(params["fc"]["kernel"], state["fc.weight"].T)
    assert params["Conv2d_1a_3x3"]["kernel"][1, 2, 0, 7] == state["Conv2d_1a_3x3.conv.weight"][7, 0, 1, 2]
    assert np.array_equal(params["Mixed_7b.branch_pool"]["var"], state["Mixed_7b.branch_pool.bn.running_var"])


# As torch-fidelity's converter pairs them; one or two of each kind of branch.
PAIRS = {
    "Conv2d_1a_3x3": "conv",
    "Conv2d_4a_3x3": "conv_4",
    "Mixed_5b.branch1x1": "mixed/conv",
    "Mixed_5b.branch5x5_2": "mixed/tower/conv_1",
    "Mixed_5d.branch3x3dbl_3": "mixed_2/tower_1/conv_2",
    "Mixed_5c.branch_pool": "mixed_1/tower_2/conv",
    "Mixed_6a.branch3x3": "mixed_3/conv",
    "Mixed_6a.branch3x3dbl_3": "mixed_3/tower/conv_2",
    "Mixed_6b.branch7x7_2": "mixed_4/tower/conv_1",
    "Mixed_6e.branch7x7dbl_5": "mixed_7/tower_1/conv_4",
    "Mixed_7a.branch3x3_1": "mixed_8/tower/conv",
    "Mixed_7a.branch7x7x3_4": "mixed_8/tower_1/conv_3",
    "Mixed_7b.branch3x3_1": "mixed_9/tower/conv",
    "Mixed_7b.branch3x3_2a": "mixed_9/tower/mixed/conv",
    "Mixed_7c.branch3x3_2b": "mixed_10/tower/mixed/conv_1",
    "Mixed_7c.branch3x3dbl_2": "mixed_10/tower_1/conv_1",
    "Mixed_7c.branch3x3dbl_3a": "mixed_10/tower_1/mixed/conv",
    "Mixed_7c.branch3x3dbl_3b": "mixed_10/tower_1/mixed/conv_1",
    "Mixed_7c.branch_pool": "mixed_10/tower_2/conv",
}


def test_layers_are_paired_with_tensorflows_as_torch_fidelity_pairs_them():
    assert {name: LAYERS[name].tf for name in PAIRS} == PAIRS
    assert len({layer.tf for layer in LAYERS.values()}) == len(LAYERS)


def test_counters_of_batches_may_be_there_or_not(state):
    without = {name: x for name, x in state.items() if not name.endswith("num_batches_tracked")}
    assert len(without) == len(state) - 94
    assert inception_params(without).keys() == inception_params(state).keys()


def test_a_missing_array_is_named(state):
    without = {name: x for name, x in state.items() if name != "Mixed_6c.branch7x7_2.bn.running_var"}
    with pytest.raises(DataError, match=r"my\.pth.*no array 'Mixed_6c\.branch7x7_2\.bn\.running_var'"):
        inception_params(without, "my.pth")


def test_the_inception_of_torchvision_is_told_apart(state):
    other = state | {"fc.weight": np.zeros((1000, 2048), np.float32), "fc.bias": np.zeros(1000, np.float32)}
    with pytest.raises(DataError, match=r"'fc\.weight' has shape \(1000, 2048\).*1008 classes"):
        inception_params(other)


def test_a_file_named_as_a_published_one_has_to_be_it(refuses, monkeypatch, read):
    name = "pt_inception-2015-12-05-6726825d.pth"
    message = refuses(FILES["zip"], name)
    sha256 = hashlib.sha256(FILES["zip"]).hexdigest()
    assert sha256 in message and "name" in message
    monkeypatch.setitem(weights.PUBLISHED, sha256, "this one")
    assert read(FILES["zip"], name).sha256 == sha256


def test_the_published_hash_begins_as_the_published_name_ends():
    assert [sha256[:8] for sha256 in weights.PUBLISHED] == ["6726825d"]
    assert all(len(sha256) == 64 for sha256 in weights.PUBLISHED)


# Hostile files


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def touch(path):
    return f"open({str(path)!r}, 'w').close()"


def hostile_pickles(path):
    """Pickles that would make a file if they were loaded as pickles, or reach for something to do so with."""
    import os
    import subprocess

    yield from (pickle.dumps({"x": Calls(os.system, f"touch {path}")}, protocol) for protocol in range(6))
    yield pickle.dumps(Calls(exec, touch(path)), 2)
    yield pickle.dumps(Calls(eval, touch(path)), 4)
    yield pickle.dumps(Calls(subprocess.Popen, ["touch", str(path)]), 2)
    yield pickle.dumps(Calls(getattr, "", "join"), 2)
    yield b"\x80\x02ctorch\nload\nX\x01\x00\x00\x00x\x85R."
    yield b"\x80\x02ctorch._utils\n__builtins__\n."
    yield b"\x80\x04\x8c\x0btorch._utils\x8c\x1b_rebuild_tensor_v2.__code__\x93."  # a dotted name
    yield b"\x80\x02ccollections\nnamedtuple\nX\x01\x00\x00\x00a" + b"X\x01\x00\x00\x00b\x86R."
    yield b"(S'touch " + str(path).encode() + b"'\nios\nsystem\n."  # INST, which calls
    yield b"(cos\nsystem\nS'touch " + str(path).encode() + b"'\no."  # OBJ, which calls


@pytest.mark.parametrize("place", range(5))
def test_a_hostile_pickle_in_the_older_format_does_nothing(refuses, tmp_path, place):
    """In the place of any of the five pickles that such a file begins with."""
    target = tmp_path / "made"
    file = io.BytesIO(FILES["legacy"])
    ends = [0]
    for _ in range(5):
        weights._Unpickler(file).load()
        ends.append(file.tell())
    for bad in hostile_pickles(target):
        content = FILES["legacy"][: ends[place]] + bad + FILES["legacy"][ends[place + 1] :]
        refuses(content)
        assert not target.exists()


def test_a_hostile_pickle_in_a_zip_file_does_nothing_and_is_named(refuses, tmp_path):
    target = tmp_path / "made"
    for bad in hostile_pickles(target):
        refuses(repacked({"data.pkl": bad}))
        assert not target.exists()
    message = refuses(repacked({"data.pkl": pickle.dumps(Calls(exec, touch(target)), 4)}))
    assert "builtins.exec" in message and "could run any program" in message


def test_an_array_of_objects_in_an_npz_does_nothing(refuses, tmp_path):
    target, file = tmp_path / "made", io.BytesIO()
    np.savez(file, x=np.array([Calls(exec, touch(target))], object))
    refuses(file.getvalue())
    assert not target.exists()


def test_what_a_pickle_does_to_our_functions_ends_with_it(read, refuses):
    """BUILD sets attributes of whatever is on the stack: here of the function that makes tensors."""
    before = dict(vars(weights._rebuild_tensor)), weights._rebuild_tensor.__defaults__
    state = b"}X\x0c\x00\x00\x00__defaults__(K\x01K\x02K\x03K\x04ts"
    refuses(repacked({"data.pkl": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN" + state + b"\x86b."}))
    assert (dict(vars(weights._rebuild_tensor)), weights._rebuild_tensor.__defaults__) == before
    for content in FILES.values():
        assert read(content).arrays.keys() == TENSORS.keys()


def test_a_pickle_cannot_claim_memory_that_it_does_not_fill(read):
    """It asks to remember its second value as number 2^25, for which the unpickler in C makes a list as long."""
    tracemalloc.start()
    try:
        assert read(one_tensor(b"\x80\x02}r\x00\x00\x00\x02.")).arrays == {}
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


def test_a_refusal_does_not_show_what_has_no_end(refuses):
    """Forty tuples, each of the one before and itself again: a text of 2^40 pieces."""
    nested = b"N" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(40))
    assert len(refuses(one_tensor(b"\x80\x02(" + nested + b"NNNNtQ."))) < 300


def test_a_whole_model_is_refused_with_what_to_do(refuses):
    message = refuses(GOLDENS["file/module"].tobytes(), "model.pth")
    assert "torch.nn" in message and "state_dict" in message


def test_a_type_that_numpy_lacks_is_refused_with_what_to_do(refuses):
    assert ".float()" in refuses(GOLDENS["file/bfloat16"].tobytes())


def tensor_pickle(key="0", count=4, offset=0, shape=(2, 2), strides=(2, 1), kind="storage"):
    """A state_dict of one tensor, with numbers that may lie."""

    def number(x):
        return b"J" + struct.pack("<i", x)

    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    def text(x):
        return b"X" + struct.pack("<I", len(x)) + x.encode()

    storage = b"(" + text(kind) + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(count) + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + numbers(shape) + numbers(strides)
    return b"\x80\x02}" + text("x") + tensor + b"\x89Nt" + b"Rs."


def one_tensor(pickled):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/data/0", np.arange(4, dtype=np.float32).tobytes())
    return file.getvalue()


def test_the_tensors_of_the_next_test_are_sound_but_for_what_it_changes(read):
    assert np.array_equal(read(one_tensor(tensor_pickle())).arrays["x"], [[0, 1], [2, 3]])
    assert np.array_equal(read(one_tensor(tensor_pickle(strides=(1, 2)))).arrays["x"], [[0, 2], [1, 3]])


@pytest.mark.parametrize(
    "lie",
    [
        {"shape": (2, 3)},
        {"shape": (3, 2)},
        {"strides": (3, 1)},
        {"strides": (2, -1)},
        {"strides": (2,)},
        {"offset": 1},
        {"offset": -1},
        {"shape": (-2, -2)},
        {"shape": (2**30, 2**30), "strides": (0, 0)},  # a few bytes that would unpack to any size
        {"key": "1"},
        {"key": "../data.pkl"},
        {"kind": "module"},
    ],
    ids=str,
)
def test_a_tensor_reaches_nowhere_beyond_its_numbers(refuses, lie):
    refuses(one_tensor(tensor_pickle(**lie)))


@pytest.mark.parametrize("content", [[1, 2], {"x": 1}, {1: {}}, "text", {"x": {"y": 2}}, None], ids=str)
def test_what_is_no_state_dict_is_refused(refuses, content):
    assert "state_dict" in refuses(one_tensor(pickle.dumps(content, 2)))


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(refuses, monkeypatch):
    file = io.BytesIO()
    np.savez_compressed(file, x=np.zeros(100_000, np.float32))
    assert len(file.getvalue()) < 2000
    monkeypatch.setattr(weights, "_MOST_BYTES", 300_000)
    assert "unpacks to more" in refuses(file.getvalue())


def test_a_graph_with_a_tensor_of_any_size_is_refused(refuses):
    built = GraphDef()
    node = built.node.add(name="x", op="Const")
    tensor = node.attr["value"].tensor
    tensor.dtype = 1
    tensor.float_val.append(0.0)
    for _ in range(2):
        tensor.tensor_shape.dim.add(size=2**30)
    refuses(built.SerializeToString())


# Damaged files


SOUND = {**FILES, "pb": graph()[0]}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_cut_off_anywhere_is_refused(refuses, kind):
    content = FILES[kind]
    for length in {*range(0, len(content), 97), len(content) - 1, len(content) - 4}:
        refuses(content[:length])


def test_a_graph_that_is_cut_off_is_refused_or_lacks_its_end(read):
    """Between two nodes a shorter graph is sound too; `inception_params` then names what is missing."""
    content, expected = graph()
    lengths = {}
    for length in range(len(content)):
        try:
            found = read(content[:length]).arrays
        except DataError:
            continue
        assert all(np.array_equal(x, expected[name]) for name, x in found.items())
        lengths[length] = len(found)
    assert sorted(set(lengths.values())) == list(range(1, len(expected) + 1))
    assert len(lengths) < len(expected) + 6  # after a node, and after the three that hold no constant


@pytest.mark.parametrize("kind", SOUND)
def test_a_file_with_a_wrong_byte_is_read_or_refused_and_raises_nothing_else(read, kind):
    rng = np.random.RandomState(0)
    for _ in range(150):
        content = bytearray(SOUND[kind])
        content[rng.randint(min(len(content), 2000))] = rng.randint(256)
        try:
            read(bytes(content))
        except DataError:
            pass


def test_zip_files_of_other_things_are_refused(refuses):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("letter.txt", "hello")
    assert "something else" in refuses(file.getvalue())


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n", bytes(1000), b"\x80\x04\x95"], ids=repr)
def test_other_files_are_refused_with_the_formats_there_are(refuses, content):
    message = refuses(content)
    assert ".pth" in message and ".pb" in message and ".npz" in message


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(DataError, match="cannot read"):
            read_weights(str(path))
