"""A finished run, or somebody's samples, measured: the table, the record, and what is not there."""

import json
import pathlib
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import toy2d
from jaxgan import evaluation
from jaxgan.errors import CheckpointError, ConfigError, DataError
from jaxgan.evaluate import _labels, evaluate, evaluate_samples, load_trained, read_samples, sample
from jaxgan.sampling import Generator
from jaxgan.train import train


@pytest.fixture(scope="module", autouse=True)
def few_pairs():
    """All pairs of 100,000 points would be many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "PAIRS", 500)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("evaluate") / "run"
    config = toy2d.get_config("tiny")
    config.duration = "4 steps"
    config.eval.every = "1 steps"
    config.checkpoint.keep = 4
    train(config, str(workdir))
    return str(workdir)


def entries(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_every_evaluation_of_the_run_is_on_record(run):
    while_training = [entry for entry in entries(pathlib.Path(run)) if entry.get("while_training")]
    assert [entry["step"] for entry in while_training] == [1, 2, 3, 4]
    rows = [json.loads(line) for line in (pathlib.Path(run) / "metrics.jsonl").read_text().splitlines()]
    for entry, row in zip(while_training, rows, strict=True):
        assert entry["values"].items() <= row.items()
        # The line alone says under which protocol its numbers were measured.
        assert entry == {"step": row["step"], "while_training": True, **row["protocol"], "values": entry["values"]}
        assert {"samples", "reference", "features", "resize", "dtype", "ema", "seed"} <= set(row["protocol"])
        assert entry["samples"] == 16 and entry["reference"]["name"] == "train"
        assert len(entry["reference"]["sha256"]) == 64


def test_the_table_and_the_record(run):
    text = evaluate(run, num_samples=40, metrics=("swd", "modes"))
    lines = text.splitlines()
    assert "last" in lines[0] and "best" in lines[0] and "floor (50k real against 50k)" in lines[0]
    names = [line.split()[0] for line in lines[1:]]
    assert names == [f"{number}40_train_raw" for number in ("swd", "modes", "reverse_kl", "high_quality")]
    assert lines[2].split()[-1] == "8"  # the floor: real points find all modes
    before = entries(pathlib.Path(run))
    last = before[-1]
    assert last["samples"] == 40 and last["ema"] and last["seed"] == 0 and last["floor"] and "labels" not in last
    assert evaluate(run, num_samples=40, metrics=("swd", "modes")) == text
    assert len(entries(pathlib.Path(run))) == len(before)  # asked again, answered in its place
    evaluate(run, num_samples=40, metrics=("swd", "modes"), seed=1)
    assert len(entries(pathlib.Path(run))) > len(before)


def test_the_raw_generator_is_another_than_the_averaged_one(run):
    values = []
    for ema in (True, False):
        assert "2 (step 2)" in evaluate(run, checkpoints=["2"], num_samples=40, metrics=("swd",), ema=ema)
        entry = entries(pathlib.Path(run))[-1]
        assert entry["ema"] is ema
        values.append(entry["values"]["swd40_train_raw"])
    assert values[0] != values[1]


def test_checkpoints_by_name(run):
    assert int(load_trained(run, "last").state.step) == 4
    assert int(load_trained(run, "3").state.step) == 3
    rows = {entry["step"]: entry["values"]["swd16_train_raw"] for entry in map(dict, _while_training(run))}
    assert int(load_trained(run, "best").state.step) == min(rows, key=rows.get)
    for name in ("7", "newest", "-1"):
        with pytest.raises(ConfigError, match="there are best, last, and the steps 1, 2, 3, 4"):
            load_trained(run, name)


def _while_training(run):
    return [entry for entry in entries(pathlib.Path(run)) if entry.get("while_training")]


def test_a_run_that_was_never_measured_has_no_best(tmp_path):
    config = toy2d.get_config("tiny")
    config.eval.every = "0 steps"
    train(config, str(tmp_path / "run"))
    with pytest.raises(CheckpointError, match="try --checkpoint=last"):
        evaluate(str(tmp_path / "run"))
    assert "last (step 1)" in evaluate(str(tmp_path / "run"), checkpoints=["last"], num_samples=20, metrics=("swd",))


def test_samples_of_somebody_else(tmp_path):
    points = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    np.savez(tmp_path / "theirs.npz", points)
    text = evaluate_samples(str(tmp_path / "theirs.npz"), toy2d.get_config(), metrics=("swd", "modes"))
    assert "theirs.npz" in text.splitlines()[0] and "swd60_train_raw" in text
    (entry,) = entries(tmp_path)
    assert entry["path"].endswith("theirs.npz") and entry["samples"] == 60


def test_statistics_from_a_file_have_no_floor(tmp_path):
    np.savez(tmp_path / "points.npz", np.zeros((20, 2), np.float32))
    np.savez(tmp_path / "ring.npz", mu=np.zeros(2), sigma=np.eye(2))
    text = evaluate_samples(
        str(tmp_path / "points.npz"), toy2d.get_config(), statistics=str(tmp_path / "ring.npz"), metrics=("fid",)
    )
    head, line = text.splitlines()
    assert head.split() == ["points.npz"] and line.split() == ["fid20_ring_raw", "2"]  # a point against a unit Gaussian
    (entry,) = entries(tmp_path)
    assert entry["floor"] == {} and entry["reference"]["name"] == "ring"


def test_another_network_than_the_run_s_takes_over_neither_its_weights_nor_its_resize(tmp_path):
    config = toy2d.get_config("tiny")
    config.eval.update({"features": "inception", "weights": "gone.pth", "resize": "torch"})
    np.savez(tmp_path / "points.npz", np.zeros((20, 2), np.float32))
    with pytest.raises(DataError, match=r"no file of Inception weights gone\.pth"):
        evaluate_samples(str(tmp_path / "points.npz"), config)
    assert "swd20_train_raw" in evaluate_samples(str(tmp_path / "points.npz"), config, features="raw", metrics=("swd",))
    with pytest.raises(ConfigError, match="'raw' resize nothing, but resize 'clean'"):
        evaluate_samples(str(tmp_path / "points.npz"), config, features="raw", resize="clean")


def test_samples_from_files(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 3), np.uint8)
    (tmp_path / "folder").mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "folder" / f"{i}.png")
    np.testing.assert_array_equal(read_samples(str(tmp_path / "folder")), pictures)
    for arrays in ({"arr_0": pictures}, {"x": pictures}, {"mu": np.zeros(3), "arr_0": pictures, "arr_1": np.arange(3)}):
        np.savez(tmp_path / "p.npz", **arrays)
        np.testing.assert_array_equal(read_samples(str(tmp_path / "p.npz")), pictures)


@pytest.mark.parametrize("damage", ["missing", "garbage", "floats", "objects"])
def test_samples_that_are_none(damage, tmp_path):
    file = tmp_path / "s.npz"
    if damage == "garbage":
        file.write_bytes(b"garbage")
    elif damage == "floats":
        np.savez(file, np.zeros((2, 4, 4, 1)))
    elif damage == "objects":
        np.savez(file, np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"s\.npz"):
        read_samples(str(file))


def test_too_few_samples(run):
    with pytest.raises(ConfigError, match="--num_samples=1"):
        evaluate(run, num_samples=1)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    """Points on the ring, with the mode as the label."""
    workdir = tmp_path_factory.mktemp("evaluate") / "conditional"
    config = toy2d.get_config("tiny")
    config.game.conditional = True
    config.eval.every = "0 steps"
    train(config, str(workdir))
    return str(workdir)


def points(files):
    archive, grid = files
    assert grid.is_file()
    return np.load(archive)["arr_0"]


def test_samples_of_classes_are_taken_in_turn(conditional):
    files = sample(conditional, 7, seed=2, classes=("5", "0", "3"))
    assert files[0].name == "generated_step_000000001_seed_2_n_7_of_5_0_3.npz"
    trained = load_trained(conditional)
    z = trained.game.latents(jax.random.key(2), np.arange(7))
    labels = np.array([5, 0, 3, 5, 0, 3, 5])
    variables = {"generator": trained.state.ema_variables}
    expected = trained.game.decode(trained.state.ema_g, variables, z, labels)
    np.testing.assert_allclose(points(files), expected, rtol=1e-4, atol=1e-5)


def test_samples_of_no_class_are_such_as_the_data_has(conditional):
    trained = load_trained(conditional)
    found = points(sample(conditional, 20))
    np.testing.assert_allclose(found, Generator(trained.game).samples(trained.state, jax.random.key(0), 20), rtol=1e-5)
    z = trained.game.latents(jax.random.key(0), np.arange(20))
    variables = {"generator": trained.state.ema_variables}
    of_each = np.stack(
        [trained.game.decode(trained.state.ema_g, variables, z, np.full(20, label)) for label in range(8)]
    )
    taken = np.abs(of_each - found).max(axis=2).argmin(axis=0)
    assert np.abs(of_each[taken, np.arange(20)] - found).max() < 1e-5  # each is of some class
    assert len(set(taken.tolist())) > 3


def test_truncated_samples(conditional, run):
    whole, cut = (sample(conditional, 9, classes=("1",), truncation=t) for t in (None, 0.1))
    assert cut[0].name == "generated_step_000000001_seed_0_n_9_of_1_truncation_0.1.npz"
    trained = load_trained(conditional)
    z = trained.game.latents(jax.random.key(0), np.arange(9), 0.1)
    variables = {"generator": trained.state.ema_variables}
    expected = trained.game.decode(trained.state.ema_g, variables, z, np.ones(9, int))
    np.testing.assert_allclose(points(cut), expected, rtol=1e-4, atol=1e-5)
    assert points(cut).std() < points(whole).std()
    assert "truncation_0.5" in sample(run, 3, truncation=0.5)[0].name  # without labels too


def test_classes_that_cannot_be_had(conditional, run):
    with pytest.raises(ConfigError, match=r"--classes: there is no 8, cat; known: 0, 1, 2, 3, 4, 5, 6, 7"):
        sample(conditional, 4, classes=("1", "8", "cat"))
    with pytest.raises(ConfigError, match="--classes: this run's generator was trained without labels"):
        sample(run, 4, classes=("1",))


def test_the_truncation_of_an_evaluation_is_on_record(conditional):
    options = {"checkpoints": ["last"], "num_samples": 40, "metrics": ("swd",)}
    evaluate(conditional, **options)
    evaluate(conditional, truncation=0.1, **options)
    whole, cut = entries(pathlib.Path(conditional))[-2:]
    assert "truncation" not in whole and cut["truncation"] == 0.1
    assert whole["values"]["swd40_train_raw"] != cut["values"]["swd40_train_raw"]


LABELLED = SimpleNamespace(conditions=lambda key, index: index)


def test_classes_by_name_or_number():
    names = ("cat", "dog", "cow")
    assert _labels((), names, 4, LABELLED) is None
    np.testing.assert_array_equal(_labels(("cow", "0"), names, 5, LABELLED), [2, 0, 2, 0, 2])
    np.testing.assert_array_equal(_labels(("dog", "cat", "2"), names, 2, LABELLED), [1, 0])


def test_a_class_whose_name_is_a_number_is_found_by_its_name():
    """A folder of pictures with the subfolders 1, 2 and 3: what was asked for is what the file is named after."""
    np.testing.assert_array_equal(_labels(("1", "3"), ("1", "2", "3"), 2, LABELLED), [0, 2])
