"""Checkpoints that two processes of one run write each for itself: real ones, and one that reads what they wrote."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxgan.checkpoint import Checkpoints
from jaxgan.parallel import Parallel
from tests.runs import ROOT, environment
from tests.small import assert_equal, mlp_game, new_state, sgd
from tests.test_distributed import finish, free_port

_EACH_FOR_ITSELF = """
import pathlib, sys
import jax
from jaxgan import distributed
from jaxgan.checkpoint import Checkpoints
from tests.test_solo import like, state_of
me, folder = int(sys.argv[1]), pathlib.Path(sys.argv[3])
distributed.initialize(f"127.0.0.1:{sys.argv[2]}", 2, me)
with distributed.Together():
    if me == 1:  # nothing that the other has told of its saves may pass for these
        distributed.barrier("the first has written")
    with distributed.alone():
        checkpoints = Checkpoints(folder / str(me), keep=1)
        for step in range(3 + me):  # no two saves of theirs belong together
            checkpoints.save(state_of(me, step), {"process": me}, float(step))
        checkpoints.wait()
        checkpoints.close()
    if me == 0:
        distributed.barrier("the first has written")
    distributed.barrier("both have written")
    with distributed.alone():
        state, host = Checkpoints(folder / str(1 - me)).restore_newest(like())
        assert host == {"process": 1 - me}
        assert {device.process_index for x in jax.tree.leaves(state) for device in x.devices()} == {me}
        print(int(state.step))
"""


def state_of(process, step):
    """A state on the first device of this process."""
    state = new_state(mlp_game(), sgd())
    other = jax.tree.map(lambda x: x + 10 * process + step, state.params_g)
    state = state.replace(step=np.int32(step), params_g=other, key=jax.random.key(process))
    return jax.device_put(state, jax.local_devices()[0])


def like():
    return Parallel("jit", jax.local_devices()).abstract(jax.eval_shape(lambda: state_of(0, 0)))


@pytest.mark.slow  # two processes
def test_each_process_s_checkpoints_are_its_own_and_read_as_those_of_one_process(tmp_path):
    port, pipes = str(free_port()), {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    settings = environment(JAX_NUM_CPU_DEVICES="2", PYTHONPATH=str(ROOT))
    programs = [[sys.executable, "-c", _EACH_FOR_ITSELF, str(i), port, str(tmp_path)] for i in range(2)]
    outcome = finish([subprocess.Popen(program, env=settings, **pipes) for program in programs])
    assert [(status, told) for status, told, _ in outcome] == [(0, "3\n"), (0, "2\n")], "\n".join(map(str, outcome))
    for process, last in ((0, 2), (1, 3)):
        checkpoints = Checkpoints(tmp_path / str(process))
        assert checkpoints.steps() == [0, last] and checkpoints.best_step() == 0
        state, host = checkpoints.restore_newest(like())
        assert_equal(state, state_of(process, last))
        assert host == {"process": process}
        checkpoints.save(state_of(process, last + 1), {"process": None})  # one process goes on with them
        checkpoints.wait()
        assert checkpoints.steps() == [0, last, last + 1]
