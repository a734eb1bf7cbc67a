"""A process that takes its own place with huge pages: once, where they are of use, and as the user says."""

import os
import subprocess
import sys

import pytest

from jaxgan import hugepages


class Restarted(Exception):
    pass


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """One where huge pages are of use; gives what changes it."""

    def change(policy="always [madvise] never", library="glibc 2.36", plugin=None):
        (tmp_path / "enabled").write_text(policy)
        monkeypatch.setattr(hugepages, "_POLICY", tmp_path / "enabled")
        monkeypatch.setattr(os, "confstr", lambda name: library)
        monkeypatch.setattr(hugepages.importlib.util, "find_spec", lambda name: plugin if name == "libtpu" else None)

    def restart(executable, arguments):
        raise Restarted(executable, arguments)

    monkeypatch.setattr(os, "execv", restart)
    for name in (hugepages.TUNABLES, "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    change()
    return change


def test_the_same_command_starts_again(machine, monkeypatch):
    monkeypatch.setenv(hugepages.TUNABLES, "glibc.malloc.check=0")
    with pytest.raises(Restarted) as restarted:
        hugepages.restart_with()
    assert restarted.value.args == (sys.executable, sys.orig_argv)
    assert os.environ[hugepages.TUNABLES] == "glibc.malloc.check=0:glibc.malloc.hugetlb=1"


@pytest.mark.parametrize("said", ["0", "1", "2"])
def test_what_the_user_says_holds(machine, monkeypatch, said):
    monkeypatch.setenv(hugepages.TUNABLES, f"glibc.malloc.hugetlb={said}")
    hugepages.restart_with()


@pytest.mark.parametrize(
    "facts",
    [{"policy": "[always] madvise never"}, {"policy": "always madvise [never]"}, {"library": "glibc 2.34"},
     {"library": "musl 1.2"}, {"plugin": "found"}],
)  # fmt: skip
def test_where_they_are_of_no_use(machine, facts):
    machine(**facts)
    hugepages.restart_with()


def test_on_the_cpu_of_a_machine_with_an_accelerator(machine, monkeypatch):
    machine(plugin="found")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(Restarted):
        hugepages.restart_with()


def test_another_system(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(hugepages, "_POLICY", tmp_path / "none")
    hugepages.restart_with()


def test_a_real_process_keeps_its_number_and_arguments(root):
    script = "import os, sys; from jaxgan import hugepages as h; h._are_of_use = lambda: True; h.restart_with(); "
    script += "print(os.getpid(), os.environ[h.TUNABLES], sys.argv[1:])"
    env = {name: value for name, value in os.environ.items() if name != hugepages.TUNABLES}
    command = [sys.executable, "-c", script, "a b"]
    with subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate(timeout=60)
    assert out.split(maxsplit=2) == [str(process.pid), "glibc.malloc.hugetlb=1", "['a b']\n"]
