"""A finished run, or somebody's samples, measured: the table, the record, and what is not there."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from experiments import toy2d
from jaxgan import evaluation
from jaxgan.errors import CheckpointError, ConfigError, DataError
from jaxgan.evaluate import evaluate, evaluate_samples, load_trained, read_samples
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


def test_samples_from_files(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 3), np.uint8)
    (tmp_path / "folder").mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "folder" / f"{i}.png")
    np.testing.assert_array_equal(read_samples(str(tmp_path / "folder")), pictures)
    np.savez(tmp_path / "p.npz", pictures)
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
