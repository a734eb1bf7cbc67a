"""The real update from shapes alone, and what is said when it does not fit."""

from types import SimpleNamespace

import jax
import pytest
from jax.experimental import topologies

from experiments import biggan, dcgan, mlp, toy2d
from jaxgan.aot import program as aot_program
from jaxgan.aot.chips import find_pod
from jaxgan.aot.program import (
    Memory,
    Narrower,
    Suggestion,
    compile_update,
    nearest_batch,
    nearest_widths,
    read_exhaustion,
    widths_in_part,
)
from jaxgan.aot.shapes import find_data_shape
from jaxgan.errors import ConfigError

GB = 2**30


CONFIG = dcgan.get_config("tiny")
CONFIG.steps_per_call = 0


@pytest.fixture(scope="module")
def program():
    return compile_update(CONFIG, jax.devices()[:4], find_data_shape(CONFIG), None)


def test_its_arguments_are_the_state_the_data_and_a_share_of_the_batch(program):
    state = jax.eval_shape(program.experiment.new_state)
    numbers = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    # 5,000 digits, whose labels nobody asks for; the places of two of the batch's eight examples.
    assert program.memory.arguments == pytest.approx(numbers + 5_000 * 784 + 2 * 4, abs=64)
    assert program.memory.fits is None and program.memory.total > program.memory.arguments


def test_a_streamed_set_takes_no_more_than_the_batches_that_lie_ready():
    config = dcgan.get_config("tiny")
    config.steps_per_call, config.data.stream = 2, "always"
    program = compile_update(config, jax.devices()[:4], find_data_shape(config), None)
    state = jax.eval_shape(program.experiment.new_state)
    numbers = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    # Two of each batch's eight pictures, for two updates, three times; the labels are not asked for.
    assert program.memory.arguments == pytest.approx(numbers + 3 * 2 * 2 * 784, abs=256)


def test_the_state_is_given_away(program):
    state = jax.eval_shape(program.experiment.new_state)
    assert program.memory.outputs < 0.1 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def test_a_batch_that_does_not_divide_is_refused():
    config = dcgan.get_config("tiny")
    config.batch_size = 6
    with pytest.raises(ConfigError, match="batch_size 6 does not divide over 4 devices"):
        compile_update(config, jax.devices()[:4], find_data_shape(config), None)


def test_the_configuration_is_left_as_it_is(program):
    assert program.config.steps_per_call == 1 and CONFIG.steps_per_call == 0


@pytest.mark.parametrize(
    "message, needed, available",
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (21.64G) "
            "exceeds available HBM (15.75G).",
            21.64,
            15.75,
        ),
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
            "Used 21.95G of 15.48G hbm. Exceeded hbm capacity by 6.47G.",
            21.95 - 2.0,
            15.48,
        ),
    ],
    ids=["temporaries", "total"],
)
def test_a_compiler_that_runs_out_of_memory_says_of_how_much(message, needed, available):
    memory = read_exhaustion(message, 2 * GB)
    assert memory.temporaries == pytest.approx(needed * GB) and memory.available == pytest.approx(available * GB)
    assert memory.arguments == 2 * GB and memory.fits is False


def test_other_complaints_are_none_of_memory():
    assert read_exhaustion("INTERNAL: Mosaic failed to compile", 1.0) is None


def sized(batch, needs, devices=4, accumulate=1, packing=1, available=100.0):
    """A program that has 20 bytes of arguments and so many of temporaries."""
    config = SimpleNamespace(batch_size=batch, game={"packing": packing}, accumulate=accumulate)
    memory = Memory(20.0, 0.0, float(needs(batch)), 0.0, available)
    return SimpleNamespace(config=config, parallel=SimpleNamespace(devices=[None] * devices), memory=memory)


def test_the_nearest_batch_where_memory_is_linear_is_found_at_once():
    tried = []

    def compile_at(batch):
        tried.append(batch)
        return sized(batch, lambda b: b)

    assert nearest_batch(sized(400, lambda b: b), compile_at) == Suggestion(80, True, 100.0)
    assert tried == [80]


@pytest.mark.parametrize("options, found", [({"devices": 3}, 78), ({"accumulate": 3}, 72), ({"packing": 3}, 72)])
def test_the_nearest_batch_divides(options, found):
    assert nearest_batch(sized(720, lambda b: b, **options), lambda b: sized(b, lambda b: b)).batch_size == found


def test_the_nearest_batch_where_something_else_is_large_too_takes_two_tries():
    """Temporaries that do not grow with the batch: two programs tell how much of them does."""
    tried = []

    def compile_at(batch):
        tried.append(batch)
        return sized(batch, lambda b: 40 + b)

    assert nearest_batch(sized(200, lambda b: 40 + b), compile_at) == Suggestion(40, True, 100.0)
    assert tried == [64, 40]  # 200 * 80 / 240, in fours


def test_a_batch_that_fits_is_not_the_last_word():
    def needs(batch):
        return batch * batch / 100  # the first try leaves room

    found = nearest_batch(sized(200, needs), lambda b: sized(b, needs))
    assert found.compiled and 64 <= found.batch_size <= 88  # 40 is the first, 88 the largest that fits


def test_after_some_tries_the_estimate_stands():
    found = nearest_batch(sized(400, lambda b: b), lambda b: sized(b, lambda _: 90), tries=1)
    assert found == Suggestion(68, False, 100.0)  # 80 * 80 / 90, in fours


def test_where_no_batch_fits_there_is_no_suggestion():
    assert nearest_batch(sized(4, lambda b: 1000), lambda b: sized(b, lambda b: 1000)) is None
    assert nearest_batch(sized(400, lambda b: b, available=15.0), lambda b: sized(b, lambda b: b)) is None


def test_widths_in_part_are_what_the_configuration_or_the_family_has():
    config = biggan.get_config("cifar10")  # which leaves widths to the family
    data = find_data_shape(config)
    assert widths_in_part(config, data, 8) == {
        "model.generator.widths": (192,) * 4,
        "model.discriminator.widths": (96,) * 4,
    }
    config.model.generator.widths, config.model.discriminator.widths = (384, 100, 24, 8), (8, 16, 24, 40)
    assert widths_in_part(config, data, 5) == {
        "model.generator.widths": (112, 16, 16, 8),
        "model.discriminator.widths": (8, 16, 16, 16),
    }
    config = mlp.get_config()
    hidden = widths_in_part(config, find_data_shape(config), 4)
    assert hidden == {"model.generator.hidden": (64, 128, 256), "model.discriminator.hidden": (256, 128, 64)}


def narrow(monkeypatch, needs, available):
    """`nearest_widths` of a program that needs so many bytes with so many sixteenths, and those that it compiled."""
    tried = []

    def program_of(part):
        memory = Memory(float(needs(part)), 0.0, 0.0, 0.0, available)
        experiment = SimpleNamespace(new_state=lambda: jax.numpy.zeros(200))  # of float32: 800 bytes
        return SimpleNamespace(config=None, experiment=experiment, memory=memory)

    def compile_at(part):
        tried.append(part)
        return program_of(part)

    monkeypatch.setattr(aot_program, "widths_in_part", lambda config, data, part: part)
    return nearest_widths(program_of(16), None, compile_at), tried


def test_the_nearest_widths_where_kernels_grow_with_their_square(monkeypatch):
    found, tried = narrow(monkeypatch, lambda part: 100 + 800 * (part / 16) ** 2, 500.0)
    assert found == Narrower(11, True, 100 + 800 * (11 / 16) ** 2)  # with 12 it were 550
    assert tried[0] == 8  # half of the way from the data's 100 bytes to 900


def test_no_widths_fit_where_the_data_do_not(monkeypatch):
    assert narrow(monkeypatch, lambda part: 100 + 800 * (part / 16) ** 2, 90.0) == (None, [])


@pytest.mark.slow
def test_the_update_of_two_slices_compiles():
    """Of two pods that only the data center's network connects."""
    pytest.importorskip("libtpu", reason="libtpu is not installed (requirements-tpu.txt)")
    find_pod("v5e:2x4")  # which makes libtpu ready to be asked
    description = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4", num_slices=2)
    assert {device.slice_index for device in description.devices} == {0, 1}
    config = toy2d.get_config("tiny")
    config.batch_size = 16
    program = compile_update(config, description.devices, find_data_shape(config), None)
    assert program.compiled is not None and len(program.parallel.devices) == 16
