"""The text and the JSON of a report, and the command that prints them."""

import json

import pytest

from experiments import dcgan
from jaxgan.aot import examine, in_words
from tests.runs import launch


def test_a_report_in_words():
    words = in_words(examine(dcgan.get_config("tiny")))
    assert "pmap over 4 device(s)" in words and "8, 2 a device" in words
    assert "each parameter once a step" in words and "0 of parameter size" in words
    assert "how much there is is not known" in words


POD = {
    "experiment": "e", "topology": "v5e:2x4", "devices": 8, "layout": "pmap", "batch_size": 4096,
    "batch_per_device": 512, "images_per_update": 4096, "updates_per_call": 20, "fits": False,
    "data": {"name": "cifar10", "examples": 50_000, "shape": [32, 32, 3]},
    "parameters": {"generator": 1, "discriminator": 1},
    "memory": {"arguments": 2**30, "outputs": 0, "temporaries": 3 * 2**33, "code": 0, "available": 2**34,
               "total": 25 * 2**30},
}  # fmt: skip


def test_what_does_not_fit_says_which_number_and_what_would():
    found = {"batch_size": 2048, "compiled": True, "total": 13 * 2**30}
    words = in_words({**POD, "suggestion": found})
    assert "24.00 GiB temporaries" in words and "25.00 GiB a device of 16.00 GiB: DOES NOT FIT" in words
    assert "--config.batch_size=2048 fits (compiled, 13.00 GiB), 256 a device" in words
    assert "--config.accumulate=2" in words
    assert "(estimated)" in in_words({**POD, "suggestion": {**found, "compiled": False}})
    words = in_words({**POD, "suggestion": None, "narrower": None})
    assert "temporaries are too large at any batch; take narrower networks" in words
    widths = {"model.generator.widths": (64, 32), "model.discriminator.widths": (32, 64)}
    narrower = {"widths": widths, "compiled": True, "total": 15 * 2**30}
    words = in_words({**POD, "suggestion": None, "narrower": narrower})
    assert "temporaries are too large at any batch; narrower networks fit (compiled, 15.00 GiB): " in words
    assert "config.model.generator.widths=(64, 32), config.model.discriminator.widths=(32, 64)" in words


SPEED = {
    "images_per_second": 1234.5, "images_per_second_float32": 300.0, "compute": 0.004, "memory": 0.002, "wire": 0.003,
    "hops": 0.001, "efficiency": 4 / 7, "efficiency_with_hops": 0.5, "batch_per_device_for_goal": 7300.0,
    "estimated": 0.009, "efficiency_estimated": 0.75, "efficiency_estimated_with_hops": 9 / 13,
}  # fmt: skip


def test_speed_in_words():
    words = in_words({**POD, "fits": True, "speed": SPEED})
    assert "at most 1,234 images/s: 4 ms of products and 2 ms of memory an update" in words
    assert "57.1% at 8 devices: 3 ms on the links" in words and "50.0% with 1 ms of hops" in words
    assert "95% from about 7300 a device on. With XLA's estimate 75.0%, 69.2% with hops" in words
    alone = in_words({**POD, "devices": 1, "fits": True, "speed": {**SPEED, "estimated": None}})
    assert "1,234 images/s" in alone and "weak scaling" not in alone and "estimate" not in alone


@pytest.mark.slow  # a start of launch.py that compiles
def test_the_command_prints_json():
    result = launch("--mode=compile", "--config=experiments/dcgan.py:tiny", "--json", devices="2")
    report = json.loads(result.stdout)
    assert report["devices"] == 2 and report["batch_per_device"] == 4 and report["fits"] is None
    assert report["gradients"]["reduced"] == report["gradients"]["expected"]


@pytest.mark.slow
def test_programs_for_a_pod_are_not_kept(tmp_path):
    """They cannot be read back."""
    pytest.importorskip("libtpu", reason="libtpu is not installed (requirements-tpu.txt)")
    given = ("--mode=compile", "--config=experiments/toy2d.py:tiny", "--topology=v5e:2x4")
    settings = {"XDG_CACHE_HOME": str(tmp_path), "JAX_COMPILATION_CACHE_DIR": "", "JAX_PLATFORMS": "cpu"}
    for _ in range(2):
        assert "cache" not in launch(*given, f"--compiled={tmp_path}/kept", env=settings).stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--topology=v5e:cube"], ["unknown topology", "v5e:16x16"]),
        (["--data_shape=many"], ["--data_shape='many'", "EXAMPLES,H,W,C"]),
    ],
    ids=["topology", "shape"],
)
def test_mistakes_end_with_one_message(arguments, words):
    result = launch("--mode=compile", "--config=experiments/dcgan.py:tiny", *arguments, check=False)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
