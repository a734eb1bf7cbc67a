"""What is said of a compiled update: its gradients and their bytes, and real pods where libtpu is."""

import re
from types import SimpleNamespace

import jax
import pytest

from experiments import dcgan, mlp, r3gan, sngan
from jaxgan.aot import examine, in_words
from jaxgan.aot import report as report_of
from jaxgan.aot.chips import Chip, Pod
from jaxgan.aot.hlo import Collective
from jaxgan.aot.report import gradients


class State:
    """Shapes of two networks: 100 + 10 and 50 + 5 numbers."""

    params_g = tuple(jax.ShapeDtypeStruct((n,), "float32") for n in (100, 10))
    params_d = tuple(jax.ShapeDtypeStruct((n,), "float32") for n in (50, 5))


def reduce(*sizes, times=1.0, kind="all-reduce"):
    return Collective(kind, sizes, 4 * sum(sizes), times)


def test_gradients_are_found_by_their_sizes():
    found = gradients([reduce(100, 10), reduce(50, 5, times=3.0), reduce(7), reduce(6, kind="all-gather")], State, 3)
    assert found.expected == found.reduced == 110 + 3 * 55
    assert (found.collectives, found.others, found.largest_other, found.parameter_sized_others) == (4, 2, 28, 0)


def test_gradients_may_be_split_over_collectives_and_joined_with_others():
    found = gradients([reduce(100, 3), reduce(10), reduce(50), reduce(5), reduce(2)], State, 1)
    assert found.reduced == found.expected and found.collectives == 4 and found.others == 1


def test_parameters_that_are_reduced_twice_or_never_show():
    assert gradients([reduce(100, 10), reduce(50, 5), reduce(100)], State, 1).parameter_sized_others == 1
    assert gradients([reduce(100, 10), reduce(50)], State, 1).reduced == 160


@pytest.mark.parametrize("kind", ["all-gather", "all-to-all", "collective-permute", "all-reduce"])
@pytest.mark.parametrize("size", [100, 900], ids=["as a kernel", "larger than all"])
def test_whatever_else_of_a_parameter_s_size_travels_is_found(kind, size):
    """A gather of parameters too, where no reduction has scattered them."""
    found = gradients([reduce(100, 10), reduce(50, 5), reduce(size, 6, kind=kind)], State, 1)
    assert found.reduced == found.expected and found.gathered == 0
    assert (found.largest_other, found.parameter_sized_others) == (4 * size, 1)


def test_logits_as_long_as_a_kernel_are_no_gradient():
    # A batch of 50 on a discriminator with a kernel of 50 numbers; XLA joins the G step's logits to its gradients.
    found = gradients([reduce(100, 10, 50), reduce(50, 5, times=3.0), reduce(50, times=3.0)], State, 3)
    assert found.reduced == found.expected and (found.collectives, found.others) == (4, 3)


@pytest.fixture(scope="module")
def report():
    return examine(dcgan.get_config("tiny"))


def test_each_parameter_is_reduced_once_a_step(report):
    """Of the real update on four devices, with its parameters counted by hand."""
    generator = 100 * 49 * 8 + 2 * 8 + 2 * 4 + 16 * 8 * 4 + 16 * 4 + 1
    assert report["parameters"]["generator"] == generator
    g = report["gradients"]
    assert g["reduced"] == g["expected"] == sum(report["parameters"].values())
    assert g["parameter_sized_others"] == 0
    assert report["collectives"]["all-reduce"]["bytes"] >= 4 * g["expected"]
    assert report["collectives"]["all-reduce"]["bytes"] < 4 * g["expected"] + 20_000  # statistics and metrics


def test_parameters_that_are_gathered_are_no_strangers():
    whole = SimpleNamespace(params_g=(jax.ShapeDtypeStruct((5000,), "float32"),), params_d=State.params_d)
    sent = [reduce(5000, kind="reduce-scatter"), reduce(50, 5), reduce(5000, kind="all-gather"), reduce(7)]
    found = gradients(sent, whole, 1)
    assert found.reduced == found.expected == 5055 and found.gathered == 5000
    assert (found.collectives, found.others, found.largest_other, found.parameter_sized_others) == (3, 1, 28, 0)


@pytest.mark.slow  # a compilation
def test_a_cut_state_takes_less_memory_and_no_more_of_the_wire(report):
    config = dcgan.get_config("tiny")
    config.parallel, config.shard_state = "shard_map", True
    cut = examine(config)
    kernel = 100 * 49 * 8  # of the generator's dense layer, the only large array there
    saved = 3 / 4 * 3 * 4 * kernel  # two moments and the average
    assert report["memory"]["arguments"] - cut["memory"]["arguments"] == saved
    assert cut["gradients"]["reduced"] == cut["gradients"]["expected"] == report["gradients"]["expected"]
    assert cut["gradients"]["gathered"] == kernel and cut["gradients"]["parameter_sized_others"] == 0
    assert f"{kernel:,} parameters gathered" in in_words(cut)


@pytest.mark.slow  # 20 s of compilation
def test_the_discriminator_reduces_its_gradients_at_each_of_its_steps():
    config = sngan.get_config("tiny")
    config.steps_per_call = 3
    report = examine(config)
    parameters, g = report["parameters"], report["gradients"]
    assert g["reduced"] == g["expected"] == parameters["generator"] + 2 * parameters["discriminator"]
    assert report["updates_per_call"] == 3 and report["unknown_loops"] == 0


@pytest.mark.slow  # one more compilation
def test_a_batch_in_parts_reduces_its_gradient_once(report):
    config = dcgan.get_config("tiny")
    config.accumulate = 2
    g = examine(config)["gradients"]
    assert g["reduced"] == g["expected"] == report["gradients"]["expected"] and g["parameter_sized_others"] == 0


@pytest.mark.slow  # one more compilation
def test_the_work_of_an_update_does_not_depend_on_the_updates_of_a_call(report):
    config = dcgan.get_config("tiny")
    config.steps_per_call = 4
    several = examine(config)
    assert several["flops"] == pytest.approx(report["flops"], rel=1e-6)
    assert several["gradients"]["reduced"] == report["gradients"]["reduced"]


def test_one_device_has_nothing_to_reduce():
    config = dcgan.get_config("tiny")
    config.parallel = "jit"
    report = examine(config)
    assert report["devices"] == 1 and report["collectives"] == {} and report["gradients"]["others"] == 0
    assert "gradients" not in in_words(report)


@pytest.mark.slow  # three compilations
def test_networks_that_fit_with_no_batch_find_narrower_ones_that_do(monkeypatch):
    config = mlp.get_config()
    config.parallel = "jit"
    chip = Chip("toy", memory=20e6, flops=1.0, bandwidth=1.0, link=1.0, axes=1, ring=1)
    monkeypatch.setattr(report_of, "find_pod", lambda name: Pod("toy", jax.devices()[:1], chip, ()))
    report = examine(config)
    assert report["fits"] is False and report["suggestion"] is None
    widths = report["narrower"]["widths"]
    assert report["narrower"]["compiled"] and 4e6 < report["narrower"]["total"] <= 20e6
    config.model.generator.hidden, config.model.discriminator.hidden = widths.values()
    assert examine(config)["memory"]["total"] == report["narrower"]["total"]
    assert f"config.model.generator.hidden={widths['model.generator.hidden']}" in in_words(report)


needs_tpu = pytest.mark.usefixtures("libtpu")


@pytest.fixture
def libtpu():
    pytest.importorskip("libtpu", reason="libtpu is not installed (requirements-tpu.txt)")


@pytest.mark.slow
@needs_tpu
@pytest.mark.parametrize("experiment", [dcgan, r3gan], ids=["dcgan", "r3gan"])
def test_a_pod_that_is_not_there(experiment):
    config = experiment.get_config("tiny")
    config.batch_size, config.steps_per_call = 16, 0  # as many updates a call as a TPU is given
    report = examine(config, "v5e:2x4")
    assert report["devices"] == 8 and report["fits"] and report["updates_per_call"] == 20
    g, s = report["gradients"], report["speed"]
    assert g["reduced"] == g["expected"] == sum(report["parameters"].values()) and g["parameter_sized_others"] == 0
    assert report["unknown_loops"] == 0 and 0 < s["efficiency_with_hops"] < s["efficiency"] < 1


@pytest.mark.slow
@needs_tpu
def test_a_batch_that_does_not_fit_finds_one_that_does():
    config = dcgan.get_config("tiny")
    config.batch_size = 8 * 2**20
    report = examine(config, "v5e:2x4")
    assert report["fits"] is False and report["suggestion"]["batch_size"] < config.batch_size
    config.batch_size = report["suggestion"]["batch_size"]
    assert report["suggestion"]["compiled"] and examine(config, "v5e:2x4")["fits"]
    assert re.search(r"DOES NOT FIT.*--config\.batch_size=\d+ fits \(compiled", in_words(report))
