"""Flags and huge pages of a process that computes on a CPU: once, where they are of use, and as the user says."""

import os
import subprocess
import sys

import pytest

from jaxgan import processor


class Restarted(Exception):
    pass


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """One where huge pages and the flag are of use; gives what changes it."""

    def change(policy="always [madvise] never", library="glibc 2.36", plugin=None, jaxlib="0.10.2"):
        (tmp_path / "enabled").write_text(policy)
        monkeypatch.setattr(processor, "_POLICY", tmp_path / "enabled")
        monkeypatch.setattr(os, "confstr", lambda name: library)
        monkeypatch.setattr(processor.importlib.util, "find_spec", lambda name: plugin if name == "libtpu" else None)
        monkeypatch.setattr(processor.importlib.metadata, "version", lambda name: jaxlib)

    def restart(executable, arguments):
        raise Restarted(executable, arguments)

    monkeypatch.setattr(os, "execv", restart)
    for name in (processor.TUNABLES, processor.FLAGS, "JAX_PLATFORMS"):
        monkeypatch.setenv(name, "")
    change()
    return change


def test_the_same_command_starts_again(machine, monkeypatch):
    monkeypatch.setenv(processor.TUNABLES, "glibc.malloc.check=0")
    with pytest.raises(Restarted) as restarted:
        processor.prepare()
    assert restarted.value.args == (sys.executable, sys.orig_argv)
    assert os.environ[processor.TUNABLES] == "glibc.malloc.check=0:glibc.malloc.hugetlb=1"


@pytest.mark.parametrize("said", ["0", "1", "2"])
def test_what_the_user_says_of_pages_holds(machine, monkeypatch, said):
    monkeypatch.setenv(processor.TUNABLES, f"glibc.malloc.hugetlb={said}")
    processor.prepare()


@pytest.mark.parametrize(
    "facts",
    [{"policy": "[always] madvise never"}, {"policy": "always madvise [never]"}, {"library": "glibc 2.34"},
     {"library": "musl 1.2"}, {"plugin": "found"}],
)  # fmt: skip
def test_where_pages_are_of_no_use(machine, facts):
    machine(**facts)
    processor.prepare()


def test_on_the_cpu_of_a_machine_with_an_accelerator(machine, monkeypatch):
    machine(plugin="found")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(Restarted):
        processor.prepare()


def test_another_system(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(processor, "_POLICY", tmp_path / "none")
    processor.prepare()


@pytest.mark.parametrize(
    ("facts", "said", "flags"),
    [
        ({}, "", f"{processor.LIBRARY}=-individual_convolution"),
        ({}, "--xla_a=1", f"--xla_a=1 {processor.LIBRARY}=-individual_convolution"),
        ({}, f"{processor.LIBRARY}=dot", f"{processor.LIBRARY}=dot"),
        ({"jaxlib": "0.11.2"}, "", ""),
        ({"plugin": "found"}, "", ""),
    ],
)
def test_the_flag(machine, monkeypatch, facts, said, flags):
    machine(policy="[always] madvise never", **facts)
    monkeypatch.setenv(processor.FLAGS, said)
    processor.prepare()
    assert os.environ[processor.FLAGS] == flags


def test_a_real_process_keeps_its_number_and_arguments_and_xla_knows_the_flag(root):
    script = "import os, sys; from jaxgan import processor as p; p._pages_are_a_choice = lambda: True; p.prepare(); "
    script += "import jax; jax.devices(); print(os.getpid(), os.environ[p.TUNABLES], sys.argv[1:])"
    env = {name: value for name, value in os.environ.items() if name not in (processor.TUNABLES, processor.FLAGS)}
    command = [sys.executable, "-c", script, "a b"]
    with subprocess.Popen(
        command, cwd=root, env={**env, "JAX_PLATFORMS": "cpu"}, stdout=subprocess.PIPE, text=True
    ) as process:
        out, _ = process.communicate(timeout=60)
    assert out.split(maxsplit=2) == [str(process.pid), "glibc.malloc.hugetlb=1", "['a b']\n"]
