"""mnist, fashion_mnist and cifar10 from small files of the real formats, against TFDS's own readers."""

import gzip
import hashlib
import http.server
import io
import os
import pathlib
import stat
import sys
import tarfile
import threading
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxgan import data
from jaxgan.data import prepared, raw
from jaxgan.errors import DataError

SMALL = {"train": 40, "test": 15}
RNG = np.random.default_rng(0)
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def put_idx_files(folder, gzipped):
    """The four files, and what is in them: {split: (pictures, labels)}."""
    folder.mkdir(parents=True)
    content = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        pictures = RNG.integers(0, 256, (SMALL[split], 28, 28), np.uint8)
        labels = RNG.integers(0, 10, SMALL[split]).astype(np.uint8)
        for array, kind in ((pictures, "images-idx3"), (labels, "labels-idx1")):
            name, blob = f"{prefix}-{kind}-ubyte", idx(array)
            (folder / (name + ".gz" * gzipped)).write_bytes(gzip.compress(blob) if gzipped else blob)
        content[split] = pictures[..., None], labels
    return content


def cifar_members():
    """The members of the archive, and what is in them: {split: (pictures, labels)}."""
    members, content = {"batches.meta.txt": "\n".join([*NAMES, "", ""]).encode()}, {}
    for split, files in (("train", [f"data_batch_{i}.bin" for i in (1, 2, 3, 4, 5)]), ("test", ["test_batch.bin"])):
        pictures = RNG.integers(0, 256, (SMALL[split], 32, 32, 3), np.uint8)
        labels = RNG.integers(0, 10, SMALL[split]).astype(np.uint8)
        for file, of_file in zip(files, np.split(np.arange(SMALL[split]), len(files)), strict=True):
            members[file] = b"".join(
                bytes([labels[i]]) + b"".join(pictures[i, :, :, plane].tobytes() for plane in range(3)) for i in of_file
            )
        content[split] = pictures, labels
    return members, content


def pack(file, members, prefix="cifar-10-batches-bin/"):
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w:gz") as archive:
        for name, blob in members.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(blob)
            archive.addfile(info, io.BytesIO(blob))
    return file


def sorted_rows(pictures, labels):
    return sorted((picture.tobytes(), int(label)) for picture, label in zip(pictures, labels, strict=True))


def check(builder, content):
    for split, (pictures, labels) in content.items():
        arrays = prepared.load(builder, split=split).arrays
        assert arrays["real"].shape == pictures.shape
        assert sorted_rows(arrays["real"], arrays["label"]) == sorted_rows(pictures, labels)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(url, file, sha256):
        raise OSError(f"no way to {url.split('/')[2]}")

    monkeypatch.setattr(raw, "download", refuse)


@pytest.fixture
def tf_files(monkeypatch):
    """Lets TFDS's own readers open files, which is all that they need TensorFlow for."""
    fake = types.SimpleNamespace(io=types.SimpleNamespace(gfile=types.SimpleNamespace(GFile=open)))
    for name in ("mnist", "cifar10"):
        monkeypatch.setattr(sys.modules[tfds.builder_cls(name).__module__], "tf", fake)


def same_examples(ours, theirs):
    """Keys decide TFDS's order, so key by key."""
    ours, theirs = list(ours), list(theirs)
    assert [key for key, _ in ours] == [key for key, _ in theirs]
    for (_, one), (_, other) in zip(ours, theirs, strict=True):
        assert set(one) == set(other) and one["label"] == other["label"] and one.get("id") == other.get("id")
        picture = np.asarray(Image.open(one["image"]))
        np.testing.assert_array_equal(picture.reshape(other["image"].shape), other["image"])


@pytest.mark.parametrize("gzipped", [True, False])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_sets_hold_what_their_files_hold(name, gzipped, tmp_path, no_network):
    content = put_idx_files(tmp_path / "downloads" / "manual" / name, gzipped)
    check(raw.builder_of(name, str(tmp_path), examples=SMALL), content)
    # Prepared now: another builder reads it, with no raw file in sight.
    (tmp_path / "downloads").rename(tmp_path / "elsewhere")
    check(raw.builder_of(name, str(tmp_path), examples=SMALL), content)


def test_cifar10_holds_what_its_archive_holds(tmp_path, no_network):
    members, content = cifar_members()
    pack(tmp_path / "downloads" / "manual" / "cifar10" / "cifar-10-binary.tar.gz", members)
    check(raw.builder_of("cifar10", str(tmp_path), examples=SMALL), content)
    assert data.load("cifar10", data_dir=str(tmp_path)).label_names == tuple(NAMES)


@pytest.mark.parametrize("name, shape", [("mnist", (28, 28, 1)), ("cifar10", (32, 32, 3))])
def test_plain_tfds_reads_it_by_name(name, shape, tmp_path, no_network):
    folder = tmp_path / "downloads" / "manual" / name
    if name == "mnist":
        content = put_idx_files(folder, True)
    else:
        members, content = cifar_members()
        pack(folder / "cifar-10-binary.tar.gz", members)
    ours = prepared.load(raw.builder_of(name, str(tmp_path), examples=SMALL), split="test").arrays
    source = tfds.data_source(name, split="test", data_dir=str(tmp_path))
    assert len(source) == SMALL["test"] and source[0]["image"].shape == shape
    assert sorted_rows(*content["test"]) == sorted((e["image"].tobytes(), int(e["label"])) for e in source)
    np.testing.assert_array_equal(ours["real"], [example["image"] for example in source])
    if name == "cifar10":
        where = {picture.tobytes(): number for number, picture in enumerate(content["test"][0])}
        assert all(e["id"] == f"test_{where[e['image'].tobytes()]:05d}".encode() for e in source)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_the_set_is_tfds_own_but_for_the_reader(name, tmp_path):
    ours, theirs = raw.builder_of(name, str(tmp_path)), tfds.builder(name, data_dir=str(tmp_path))
    assert ours.data_path == theirs.data_path and ours.info.full_name == theirs.info.full_name
    assert ours.info.features.to_json() == theirs.info.features.to_json()
    assert type(theirs) is not type(ours)  # and TFDS's own class is still the registered one


def test_idx_examples_and_keys_are_those_of_tfds(tmp_path, tf_files):
    put_idx_files(tmp_path / "files", False)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        files = [tmp_path / "files" / f"{prefix}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
        ours = raw.builder_of("mnist", str(tmp_path), examples=SMALL)._generate(split, *files)
        theirs = tfds.builder("mnist", data_dir=str(tmp_path))._generate_examples(SMALL[split], *files)
        same_examples(ours, theirs)


def test_cifar_examples_and_keys_are_those_of_tfds(tmp_path, tf_files):
    members, _ = cifar_members()
    for name, blob in members.items():
        (tmp_path / name).write_bytes(blob)
    theirs = tfds.builder("cifar10", data_dir=str(tmp_path))
    info = theirs._cifar_info
    ours = raw.builder_of("cifar10", str(tmp_path), examples=SMALL)
    for split, names in (("train", info.train_files), ("test", info.test_files)):
        files = [str(tmp_path / name) for name in names]
        same_examples(ours._generate(split, tmp_path, members), theirs._generate_examples(f"{split}_", files))


def test_gzipped_and_plain_are_the_same(tmp_path):
    array = RNG.integers(0, 256, (3, 4, 5), np.uint8)
    for name, blob in (("a", idx(array)), ("b", gzip.compress(idx(array)))):
        (tmp_path / name).write_bytes(blob)
        np.testing.assert_array_equal(raw.read_idx(tmp_path / name, (3, 4, 5)), array)


ARRAY = RNG.integers(0, 256, (3, 4, 5), np.uint8)
DAMAGED = {
    "empty": b"",
    "plain file cut off": idx(ARRAY)[:-1],
    "gzip file cut off": gzip.compress(idx(ARRAY))[:-10],
    "gzip file with wrong bytes": gzip.compress(idx(ARRAY))[:20] + b"\xff" * 20 + gzip.compress(idx(ARRAY))[40:],
    "wrong magic": b"\1" + idx(ARRAY)[1:],
    "another type": idx(ARRAY)[:2] + b"\x0d" + idx(ARRAY)[3:],
    "another number of dimensions": idx(ARRAY.reshape(12, 5)),
    "fewer examples": idx(ARRAY[:2]),
    "more examples": idx(np.concatenate([ARRAY, ARRAY])),
    "something behind the end": idx(ARRAY) + b"\0",
    "a web page": b"<html>please log in</html>",
}


@pytest.mark.parametrize("blob", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_idx_files_are_named(blob, tmp_path):
    (tmp_path / "some-file.gz").write_bytes(blob)
    with pytest.raises(DataError, match=r"some-file\.gz.*Fetch it again"):
        raw.read_idx(tmp_path / "some-file.gz", ARRAY.shape)


@pytest.mark.parametrize("what", ["labels of another length", "label above nine"])
def test_a_file_that_does_not_fit_leaves_nothing_and_works_when_replaced(what, tmp_path, no_network):
    folder = tmp_path / "downloads" / "manual" / "mnist"
    content = put_idx_files(folder, False)
    file = folder / "t10k-labels-idx1-ubyte"
    whole = file.read_bytes()
    file.write_bytes(idx(np.zeros(14, np.uint8)) if what == "labels of another length" else whole[:-1] + b"\x0c")
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte is (not what|damaged: label 12)"):
        prepared.load(raw.builder_of("mnist", str(tmp_path), examples=SMALL), split="train")
    assert list((tmp_path / "mnist").glob("*")) == []
    file.write_bytes(whole)
    check(raw.builder_of("mnist", str(tmp_path), examples=SMALL), content)


def test_archive_members_by_base_name_and_nothing_else(tmp_path):
    file = pack(tmp_path / "x.tar.gz", {"a": b"1", "../../../evil": b"2", "sub/b": b"3"}, prefix="")
    with tarfile.open(tmp_path / "y.tar", "w") as archive:
        for name, kind in (("dir/a", tarfile.DIRTYPE), ("link/a", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    before = set(tmp_path.parent.rglob("*"))
    assert raw.read_members(file, ["a", "b"]) == {"a": b"1", "b": b"3"}
    with pytest.raises(DataError, match=r"y\.tar lacks a\."):
        raw.read_members(tmp_path / "y.tar", ["a"])
    assert set(tmp_path.parent.rglob("*")) == before


def test_damaged_archives_are_named(tmp_path):
    members, _ = cifar_members()
    file = pack(tmp_path / "c.tar.gz", members)
    with pytest.raises(DataError, match=r"c\.tar\.gz lacks data_batch_6\.bin, x"):
        raw.read_members(file, [*members, "x", "data_batch_6.bin"])
    for blob in (file.read_bytes()[:-2000], b"", b"<html>", b"\x1f\x8b" + bytes(100)):
        file.write_bytes(blob)
        with pytest.raises(DataError, match=r"c\.tar\.gz (cannot be read|lacks)"):
            raw.read_members(file, list(members))


def test_an_archive_with_records_missing(tmp_path, no_network):
    members, _ = cifar_members()
    members["data_batch_3.bin"] = members["data_batch_3.bin"][:-3073]
    file = pack(tmp_path / "downloads" / "manual" / "cifar10" / "cifar-10-binary.tar.gz", members)
    with pytest.raises(DataError, match="split train holds"):
        prepared.load(raw.builder_of("cifar10", str(tmp_path), examples=SMALL), split="train")
    assert file.exists() and list((tmp_path / "cifar10").glob("*")) == []


@pytest.mark.parametrize(
    "name, host, files",
    [
        ("mnist", "storage.googleapis.com", 4),
        ("fashion_mnist", "fashion-mnist.s3-website.eu-central-1.amazonaws.com", 4),
        ("cifar10", "www.cs.toronto.edu", 1),
    ],
)
def test_missing_files_are_named_with_address_and_folder(name, host, files, tmp_path, no_network, monkeypatch):
    monkeypatch.setattr(raw, "SYSTEM_FOLDERS", {})
    with pytest.raises(DataError) as error:
        data.load(name, data_dir=str(tmp_path))
    lines = str(error.value).splitlines()
    assert lines[0].startswith(f"{name} is not prepared")
    assert len(lines) == files + 2 and all(f"//{host}/" in line and f"no way to {host}" in line for line in lines[1:-1])
    assert str(tmp_path / "downloads" / "manual" / name) in lines[-1]
    assert list((tmp_path / name).glob("*")) == []


def test_only_what_is_missing_is_fetched_with_the_checksum_of_tfds(tmp_path, monkeypatch):
    asked = []

    def fetch(url, file, sha256):
        asked.append((url, sha256))
        return file

    monkeypatch.setattr(raw, "download", fetch)
    monkeypatch.setattr(raw, "SYSTEM_FOLDERS", {"mnist": tmp_path / "system"})
    folder = tmp_path / "downloads" / "manual" / "mnist"
    put_idx_files(folder, False)
    (tmp_path / "system").mkdir()
    (folder / "t10k-labels-idx1-ubyte").rename(tmp_path / "system" / "t10k-labels-idx1-ubyte")
    (folder / "train-labels-idx1-ubyte").unlink()
    names = [name for files in raw._IDX_FILES.values() for name in files]
    found = raw.find_or_download(raw.builder_of("mnist", str(tmp_path)), names)
    assert found["t10k-labels-idx1-ubyte.gz"].parent == tmp_path / "system"
    assert found["train-images-idx3-ubyte.gz"] == folder / "train-images-idx3-ubyte"
    assert asked == [
        (
            "https://storage.googleapis.com/cvdf-datasets/mnist/train-labels-idx1-ubyte.gz",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        )
    ]


class Server(http.server.BaseHTTPRequestHandler):
    body = bytes(range(256)) * 5000

    def do_GET(self):
        if self.path == "/gone":
            self.send_error(404)
            return
        if self.path == "/nonsense":
            self.wfile.write(b"what?\r\n\r\n")
            return
        self.send_response(200)
        if self.path == "/chunked-cut":
            self.send_header("Transfer-Encoding", "chunked")
        elif self.path != "/no-length":
            self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        if self.path == "/chunked-cut":
            self.wfile.write(b"1000\r\n" + bytes(100))
        else:
            self.wfile.write(self.body[: 400_000 if self.path == "/cut" else None])

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


RIGHT = hashlib.sha256(Server.body).hexdigest()


@pytest.mark.parametrize("path", ["/whole", "/no-length"])
def test_download(path, address, tmp_path):
    old = os.umask(0o022)
    try:
        file = raw.download(address + path, tmp_path / "new" / "x.gz", RIGHT)
    finally:
        os.umask(old)
    assert file.read_bytes() == Server.body and list(file.parent.iterdir()) == [file]
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


@pytest.mark.parametrize(
    "path, sha256, message",
    [
        ("/whole", "0" * 64, RIGHT),
        ("/cut", RIGHT, "400000 of 1280000 bytes"),
        ("/chunked-cut", RIGHT, ""),
        ("/gone", RIGHT, "404"),
        ("/nonsense", RIGHT, ""),
    ],
)
def test_a_download_that_fails_leaves_nothing_and_is_told(path, sha256, message, address, tmp_path, monkeypatch):
    builder = raw.builder_of("cifar10", str(tmp_path))
    info = types.SimpleNamespace(checksum=sha256)
    monkeypatch.setattr(type(builder), "url_infos", {f"{address}{path}": info})
    with pytest.raises(DataError) as error:
        raw.find_or_download(builder, [path[1:]])
    assert address + path in str(error.value) and message in str(error.value)
    assert list((tmp_path / "downloads" / "manual" / "cifar10").iterdir()) == []


def test_a_download_replaces_nothing_until_it_is_whole(address, tmp_path):
    (tmp_path / "x").write_bytes(b"older")
    with pytest.raises(OSError, match="400000 of"):
        raw.download(f"{address}/cut", tmp_path / "x", RIGHT)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"older"]


@pytest.mark.slow
def test_the_real_fashion_mnist(tmp_path):
    """From Debian's package dataset-fashion-mnist: 70,000 real pictures through the whole path."""
    folder = raw.SYSTEM_FOLDERS["fashion_mnist"]
    if not pathlib.Path(folder).is_dir():
        pytest.skip(f"{folder} is not there: apt-get install dataset-fashion-mnist")
    content = {}
    for split, prefix, count in (("train", "train", 60_000), ("test", "t10k", 10_000)):
        blobs = [
            gzip.decompress((folder / f"{prefix}-{kind}-ubyte.gz").read_bytes())
            for kind in ("images-idx3", "labels-idx1")
        ]
        pictures = np.frombuffer(blobs[0][16:], np.uint8).reshape(count, 28, 28, 1)
        content[split] = pictures, np.frombuffer(blobs[1][8:], np.uint8)
    for split, (pictures, labels) in content.items():
        for _ in range(2):  # the second time train comes from the decoded cache
            loaded = data.load("fashion_mnist", split=split, data_dir=str(tmp_path))
            assert sorted_rows(loaded.arrays["real"], loaded.arrays["label"]) == sorted_rows(pictures, labels)
    assert loaded.label_names[9] == "Ankle boot"
    source = tfds.data_source("fashion_mnist", split="test", data_dir=str(tmp_path))
    np.testing.assert_array_equal(loaded.arrays["real"][:100], [source[i]["image"] for i in range(100)])
