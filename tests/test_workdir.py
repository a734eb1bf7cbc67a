"""A folder belongs to one run; whose it is, and what differs, is said without touching it."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments.common import base
from jaxgan import workdir as module
from jaxgan.errors import CheckpointError
from jaxgan.workdir import CAME_LATER, MAY_CHANGE, Workdir, environment, plain, write_json

DATA = {"name": "mnist5k", "shape": (28, 28, 1), "dtype": "uint8", "examples": 5000, "label_names": ("a", "b")}


def config(**changes):
    c = base("x")
    c.model.generator = ConfigDict({"widths": (8, 4)})
    for name, value in changes.items():
        c.update_from_flattened_dict({name.replace("__", "."): value})
    return c


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def claimed(tmp_path):
    Workdir(tmp_path / "run").claim(config(), {"seed": 0}, DATA)
    return tmp_path / "run"


def refused(folder, c=None, data=DATA):
    before = content(folder)
    with pytest.raises(CheckpointError) as error:
        Workdir(folder).claim(config() if c is None else c, {}, data)
    assert content(folder) == before
    return str(error.value)


def test_nothing_is_made_before_the_claim(tmp_path):
    folder = Workdir(tmp_path / "a" / "run")
    assert not folder.path.exists() and folder.path.is_absolute()
    folder.claim(config(), {}, DATA)
    assert folder.samples.is_dir()


def test_the_record_is_what_was_claimed(claimed):
    record = Workdir(claimed).read_record()
    assert record["overrides"] == {"seed": 0}
    assert record["data"] == {**DATA, "shape": [28, 28, 1], "label_names": ["a", "b"]}
    assert record["config"]["model"]["generator"]["widths"] == [8, 4]
    assert record["config"]["optimizer"]["generator"]["learning_rate"] == 2e-4
    assert sorted(path.name for path in claimed.iterdir()) == ["config.json", "samples"]


def test_the_same_configuration_goes_on(claimed):
    before = content(claimed)
    Workdir(claimed).claim(config(), {"seed": 0}, DATA)
    assert content(claimed) == before
    as_lists = config()
    as_lists.model.generator = ConfigDict({"widths": [8, 4]})
    Workdir(claimed).claim(as_lists, {"seed": 0}, {**DATA, "shape": [28, 28, 1]})
    assert content(claimed) == before


def test_the_message_lists_exactly_what_differs(claimed):
    changes = {"seed": 1, "optimizer__generator__b1": 0.9, "duration": "3 epochs"}
    message = refused(claimed, config(**changes), {**DATA, "examples": 60000})
    assert message.splitlines()[1:-1] == [
        "  optimizer.generator.b1: 0.5 there, 0.9 here",
        "  seed: 0 there, 1 here",
        "  examples: 5000 there, 60000 here",
    ]
    assert str(claimed) in message and "Nothing was changed" in message


def test_a_field_that_one_of_them_lacks_is_absent(claimed):
    c = config()
    c.model.generator.kernel = 5
    del c.model.generator["widths"]
    assert refused(claimed, c).splitlines()[1:-1] == [
        "  model.generator.kernel: 'absent' there, 5 here",
        "  model.generator.widths: [8, 4] there, 'absent' here",
    ]


def test_a_run_from_before_a_field_did_what_its_default_says(claimed):
    record = json.loads((claimed / "config.json").read_text())
    for name, value in CAME_LATER.items():
        assert record["config"].pop(name) == value
    (claimed / "config.json").write_text(json.dumps(record))
    assert refused(claimed, config(joint_pass=True)).splitlines()[1:-1] == ["  joint_pass: 'absent' there, True here"]
    Workdir(claimed).claim(config(), {"seed": 0}, DATA)


def test_every_field_that_may_change_exists(claimed):
    flat = {**plain(config())}
    for name in MAY_CHANGE:
        value = flat
        for part in name.split("."):
            value = value[part]


def test_what_may_change_may_change(claimed):
    changed = config(
        duration="100 epochs",
        parallel="jit",
        steps_per_call=5,
        log_every="1 steps",
        sample_every="1 epochs",
        checkpoint_every="1 epochs",
        checkpoint__keep=7,
        data__data_dir="/elsewhere",
        data__path="/there",
        health__patience="1 steps",
        health__collapsed=0.2,
    )
    Workdir(claimed).claim(changed, {"duration": "100 epochs"}, DATA)
    record = Workdir(claimed).read_record()
    assert record["config"]["duration"] == "100 epochs" and record["overrides"] == {"duration": "100 epochs"}


@pytest.mark.parametrize("name, value", [("eval__samples", 1), ("data__flip", True), ("experiment", "y")])
def test_a_neighbour_of_what_may_change_may_not(claimed, name, value):
    assert f"  {name.replace('__', '.')}: " in refused(claimed, config(**{name: value}))


def test_only_the_configuration_may_change_and_only_by_whole_names(claimed):
    c = config()
    c.healthy = True
    message = refused(claimed, c, {**DATA, "duration": "3 s"})
    assert "  healthy: 'absent' there, True here" in message and "  duration: 'absent' there, '3 s' here" in message


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    assert "holds no run" in refused(tmp_path)


def test_an_empty_folder_is_taken(tmp_path):
    Workdir(tmp_path).claim(config(), {}, DATA)
    assert (tmp_path / "config.json").exists()


@pytest.mark.parametrize("text", ["", "{", '{"config": {', "{}", "[]", "null", '{"config": {}}', "\0\0"])
def test_a_damaged_record_is_said_to_be_one(claimed, text):
    (claimed / "config.json").write_text(text)
    assert str(claimed) in refused(claimed)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Workdir(claimed).read_record()


def test_a_folder_without_a_record_is_no_run(tmp_path):
    with pytest.raises(CheckpointError, match="holds no run"):
        Workdir(tmp_path).read_record()


class Killed(BaseException):
    """Nothing of ours runs after it, as after SIGKILL."""


@pytest.mark.parametrize("moment", ["before", "halfway"])
def test_a_claim_killed_in_the_middle_can_be_made_again(tmp_path, monkeypatch, moment):
    def killed(file, value):
        if moment == "halfway":
            file.with_name(f".{file.name}.12345").write_text(json.dumps(value)[:100])
        raise Killed

    folder = Workdir(tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module, "write_json", killed)
        folder.claim(config(), {}, DATA)
    folder.claim(config(), {}, DATA)
    assert folder.read_record()["config"] == plain(config())
    assert folder.samples.is_dir()


def test_each_start_is_noted(claimed):
    folder = Workdir(claimed)
    folder.note_environment()
    folder.note_environment()
    first, second = json.loads((claimed / "environment.json").read_text())
    assert first.keys() == second.keys() == environment().keys()
    assert first["packages"]["jax"] and first["python"] and len(first["devices"]) >= 1
    assert first["processes"] == 1


def test_plain():
    nested = ConfigDict({"a": (1, 2), "b": {"c": 0.1}, "d": None})
    assert plain(nested) == {"a": [1, 2], "b": {"c": 0.1}, "d": None}
    assert type(plain(nested)) is dict and type(plain(nested)["b"]) is dict
    numbers = {"a": np.float32(0.5), "b": np.int64(3), "c": np.float64(0.1), "d": np.bool_(True)}
    assert plain(numbers) == {"a": 0.5, "b": 3, "c": 0.1, "d": True}


def test_a_failed_write_leaves_the_old_file_and_no_scratch(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, {"a": 1})
    before = content(tmp_path)
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert content(tmp_path) == before


def test_what_a_member_took_over_holds_from_its_step_on(tmp_path):
    folder = Workdir(tmp_path)
    folder.forget_copies(after=5)
    assert folder.values_at(100) == {} and not list(tmp_path.iterdir())
    for step, values in ((10, {"a": 1.0, "b": 2.0}), (20, {"a": 3.0}), (30, {"a": np.float32(4.0)})):
        folder.note_copy({"step": step, "from": "0001", "values": values})
    assert [folder.values_at(step) for step in (9, 10, 20, 30)] == [
        {}, {"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 2.0}, {"a": 4.0, "b": 2.0}
    ]  # fmt: skip
    folder.note_copy({"step": 20, "from": "0002", "values": {"a": 5.0}})  # comes again after a kill
    assert [(entry["step"], entry["from"]) for entry in folder.read_lineage()] == [(10, "0001"), (20, "0002")]
    folder.forget_copies(after=19)
    assert [entry["step"] for entry in folder.read_lineage()] == [10]
