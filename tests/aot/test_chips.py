"""Pods by name, and what is said where there is no compiler for them."""

import importlib.util

import jax
import pytest

from jaxgan.aot.chips import CHIPS, GiB, find_pod, read_topology
from jaxgan.errors import ConfigError


def test_a_topology_is_a_chip_and_a_grid():
    assert read_topology("v5e:16x16") == (CHIPS["v5e"], (16, 16))
    assert read_topology("v5p:4x4x8") == (CHIPS["v5p"], (4, 4, 8))


@pytest.mark.parametrize("name", ["v9:2x4", "v5e", "v5e:2x4x4", "v4:2x4", "v5e:0x4", "v5e:2x", "pod"])
def test_an_unknown_topology_lists_the_known_forms(name):
    with pytest.raises(ConfigError, match=rf"unknown topology '{name}'.*v4, v5e, v5p, v6e.*v5e:16x16.*v5p:4x4x8"):
        find_pod(name)


def test_without_libtpu_the_message_names_an_environment_of_its_own(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "libtpu" else found(name))
    with pytest.raises(ConfigError, match=r"(?s)needs libtpu.*environment of its own.*-r requirements-tpu\.txt"):
        find_pod("v5e:2x4")


def test_the_local_devices_are_a_pod_without_figures():
    pod = find_pod(None)
    assert pod.name == "local" and pod.devices == jax.local_devices() and pod.chip is None and pod.grid == ()


def test_what_is_published_of_a_chip_agrees_with_what_is_published_of_a_pod():
    """Google states both: bfloat16 peak of 256 chips, and the inter-chip bandwidth of a chip in both directions."""
    assert CHIPS["v5e"].flops * 256 == pytest.approx(50.63e15, rel=0.01)
    assert CHIPS["v6e"].flops * 256 == pytest.approx(234.9e15, rel=0.01)
    for name, both in {"v5e": 400e9, "v5p": 1200e9, "v6e": 800e9}.items():
        chip = CHIPS[name]
        assert chip.link * 2 * (2 * chip.axes) == both
    assert CHIPS["v4"].clock == pytest.approx(1.05e9, rel=0.01)  # Jouppi et al. 2023
    assert {name: chip.memory / GiB for name, chip in CHIPS.items()} == {"v4": 32, "v5e": 16, "v5p": 95, "v6e": 32}


@pytest.mark.slow
@pytest.mark.parametrize("name, count", [("v5e:2x4", 8), ("v5e:16x16", 256), ("v4:4x4x4", 64), ("v5p:4x4x4", 64)])
def test_a_device_of_a_pod_is_a_chip(name, count):
    pytest.importorskip("libtpu", reason="libtpu is not installed (requirements-tpu.txt)")
    assert len(find_pod(name).devices) == count


@pytest.mark.slow
def test_a_grid_that_no_pod_has_is_refused():
    pytest.importorskip("libtpu", reason="libtpu is not installed (requirements-tpu.txt)")
    with pytest.raises(ConfigError, match=r"libtpu knows no pod 'v5e:3x5'.*for instance: v5e:2x4"):
        find_pod("v5e:3x5")
