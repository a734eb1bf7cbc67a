"""Several processes as one run: how they find each other, agree, and end together.

Every process runs the same program on the same configuration in the same order; it sees the devices of all, and holds
its own. The first one, `is_main`, writes. What the processes tell each other besides the update's own collectives goes
through the store of `jax.distributed`'s coordinator, as JSON, and never waits without a limit.
"""

import contextlib
import contextvars
import functools
import glob
import importlib.util
import itertools
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from jaxgan.errors import ConfigError, DistributedError, JaxganError

PyTree = Any
HEARTBEAT = 30  # seconds without a sign of life after which a process is lost, and all others end
_LAST_WORDS = 2  # seconds
_SHUTDOWN = 30  # seconds for the last goodbye of a run that is over everywhere
_START = 600  # seconds for all processes to start
_LIMIT = 2 * 3600  # seconds that processes which are all alive wait for one: it may prepare data, or evaluate
_LOST = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED", "Gloo", "NCCL", "onnection")  # in JAX's errors
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
_AGAIN = "The same command, on these or other machines, goes on from the newest checkpoint."
_PATIENCE = 5  # seconds between two signs that a process still waits
_ASK = 2  # seconds between two looks for another's notice
_count = itertools.count()  # of the exchanges so far, the same in all processes
_alone = contextvars.ContextVar("alone", default=False)


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    patience: int = _START,
) -> None:
    """Makes this process one of a run's; before any device is used. Does nothing where there is one process alone.

    Args:
        coordinator: "HOST:PORT" of the first process, which listens there.
        num_processes: of the run.
        process_id: of this one, from 0.
        patience: seconds to wait for all others.

    Without arguments, what TPU pods, SLURM, Open MPI and Kubernetes tell a process is used, if it stands in one.

    Raises:
        ConfigError: arguments that do not go together.
        DistributedError: the processes did not find each other in time.
    """
    given = (coordinator, num_processes, process_id)
    if given != (None, None, None):
        _check(*given)
        how = {"coordinator_address": coordinator, "num_processes": num_processes, "process_id": process_id}
        how["cluster_detection_method"] = "deactivate"
    elif found := recognise():
        logging.info("this is one process of several, by %s", found)
        how = {}
    else:
        return
    # Its handler would swallow a SIGTERM that comes outside the loop; in there `Agreement` is told of it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **how,
            initialization_timeout=patience,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=_SHUTDOWN,
        )
    except (RuntimeError, ValueError) as error:  # JAX raises both, and its runtime's are RuntimeErrors too
        where = f"at {coordinator}" if coordinator else "by what the environment says"
        raise DistributedError(
            f"the processes did not find each other {where} within {patience} s: {_first_line(error)}. Start all of "
            "them, let the port be open between the machines, or name --coordinator, --num_processes and --process_id."
        )


def recognise() -> str:
    """What tells this process that it is one of several: TPU, SLURM, Open MPI or Kubernetes; "" where nothing does.

    Raises:
        ConfigError: one of several, but where the first one is, JAX cannot find out.
    """
    env = os.environ
    if all(name in env for name in _SLURM) and int(env["SLURM_NTASKS"]) > 1:
        return "SLURM"
    if int(env.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        if "OMPI_MCA_orte_hnp_uri" not in env:  # Open MPI 5 does not say where its first process is
            raise ConfigError(
                "started by Open MPI, which does not say where the first process is: add --coordinator=HOST:PORT "
                "--num_processes=$OMPI_COMM_WORLD_SIZE --process_id=$OMPI_COMM_WORLD_RANK"
            )
        return "Open MPI"
    if "KUBERNETES_SERVICE_HOST" in env and "JOB_COMPLETION_INDEX" in env:  # a pod of an indexed job
        return "Kubernetes"
    return "TPU" if _is_tpu_host() else ""


def _is_tpu_host() -> bool:
    """A machine with TPU chips and the library for them, where nobody asked for another kind of device."""
    wanted = os.environ.get("JAX_PLATFORMS", "tpu")
    chips = glob.glob("/dev/accel[0-9]*") or glob.glob("/dev/vfio/[0-9]*")
    return "tpu" in wanted and bool(chips) and importlib.util.find_spec("libtpu") is not None


def _check(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    if None in (coordinator, num_processes, process_id):
        raise ConfigError("--coordinator, --num_processes and --process_id go together: name all three, or none")
    if not coordinator.rpartition(":")[2].isdecimal():
        raise ConfigError(f"--coordinator={coordinator}: a host and a port are needed, HOST:PORT")
    if not 0 <= process_id < num_processes:
        raise ConfigError(f"--process_id={process_id} of --num_processes={num_processes}: from 0 to one less is needed")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """A context in which this process is a run of its own, on its own devices: nobody is asked, told or waited for."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def is_solo() -> bool:
    """Whether this is one process of several that goes its own way, see `alone`."""
    return _alone.get() and jax.process_count() > 1


def count() -> int:
    """How many processes the run has."""
    return 1 if _alone.get() else jax.process_count()


def index() -> int:
    """Which of them this one is, from 0."""
    return 0 if _alone.get() else jax.process_index()


def is_main() -> bool:
    """Whether this process is the one that writes."""
    return index() == 0


def barrier(name: str) -> None:
    """Returns when all processes are here; fails when one does not come within two hours, or is lost."""
    if count() > 1:
        _client().wait_at_barrier(f"jaxgan/{next(_count)}/{name}", _LIMIT * 1000)


def from_main(compute: Callable[[], Any], limit: float = _LIMIT) -> Any:
    """What `compute` gives in the first process, as JSON brings it to all others, which wait for so many seconds."""
    if count() == 1:
        return compute()
    key = f"jaxgan/{next(_count)}"
    if is_main():
        _client().key_value_set(key, json.dumps(compute()))
    return json.loads(_get(key, limit))


def gather(value: Any, limit: float = _LIMIT) -> list[Any]:
    """The values of all processes, in their order; each waits for the others for so many seconds. JSON."""
    if count() == 1:
        return [value]
    key = f"jaxgan/{next(_count)}"
    _client().key_value_set(f"{key}/{jax.process_index()}", json.dumps(value))
    values = [json.loads(_get(f"{key}/{i}", limit)) for i in range(jax.process_count())]
    barrier("gathered")  # what they say may end the first process, and the store with it
    return values


def _get(key: str, limit: float) -> str:
    """What lies under a key of the store, once it is there. A process that is lost meanwhile ends the others."""
    until = time.monotonic() + limit
    while True:
        try:
            return _client().blocking_key_value_get(key, _PATIENCE * 1000)  # in between a signal is taken note of
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error) or time.monotonic() > until:
                raise


def check_same(what: str, value: Any) -> None:
    """Raises DistributedError, in every process, where `value` is not the same in all of them."""
    first, *others = gather(value)
    different = [i for i, other in enumerate(others, start=1) if other != first]
    if different:
        which = ", ".join(map(str, different))
        raise DistributedError(
            f"the processes of a run need the same {what}; that of process {which} differs from process 0's. Start all "
            "of them with the same command and files."
        )


def put(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """The same arrays on every device of a sharding that splits nothing; each process brings its own copy of them."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    own = [device for device in sharding.mesh.devices.flat if device.process_index == jax.process_index()]

    def one(x):
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            if x.sharding == sharding:
                return x
            x = x.addressable_data(0)
        copies = [jax.device_put(x, device) for device in own]
        return jax.make_array_from_single_device_arrays(np.shape(x), sharding, copies)

    return jax.tree.map(one, tree)


def split(x: np.ndarray, sharding: Sharding) -> jax.Array:
    """An array, known to all processes, cut as the sharding says; each process brings its own parts of it."""
    if sharding.is_fully_addressable:
        return jax.device_put(x, sharding)
    return jax.make_array_from_callback(np.shape(x), sharding, lambda place: x[place])


def whole(tree: PyTree) -> PyTree:
    """The arrays of a tree with those gathered that are cut over devices: a copy on each of them. All processes ask."""
    cut = [x for x in jax.tree.leaves(tree) if not x.is_fully_replicated]
    return _gather(cut[0].sharding.mesh)(tree) if cut else tree


@functools.cache
def _gather(mesh: Mesh) -> Callable[[PyTree], PyTree]:
    return jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))


def in_shares(function: Callable[[np.ndarray], PyTree], rows: np.ndarray) -> PyTree:
    """`function(rows)`, whose arrays have a row for each row; every process computes its share, and all get all."""
    if count() == 1:
        return function(rows)
    size = -(-len(rows) // jax.process_count())
    places = np.arange(size) + jax.process_index() * size
    own = function(rows[np.minimum(places, len(rows) - 1)])
    return jax.tree.map(lambda x: multihost_utils.process_allgather(x, tiled=True)[: len(rows)], own)


class Notice:
    """Whether any process has raised its flag, told to the others within seconds; nobody waits, or has to ask."""

    def __init__(self):
        self._key = f"jaxgan/{next(_count)}/notice" if count() > 1 else ""
        self._is_raised, self._asked = False, -math.inf

    def any(self, flag: bool) -> bool:
        """Whether one of them has."""
        if not self._key:
            return flag
        if self._is_raised:
            return True
        if flag:
            _client().key_value_set(self._key, "raised", allow_overwrite=True)
            self._is_raised = True
        elif time.monotonic() - self._asked > _ASK:
            self._is_raised, self._asked = self._look(), time.monotonic()
        return self._is_raised

    def _look(self) -> bool:
        try:
            return bool(_client().key_value_try_get(self._key))
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" not in str(error):
                raise
            return False


class Agreement:
    """Whether any process has raised its flag, told to all of them at the same call.

    Of several processes the answer is that of the call before: the collective, of one number, is under way while the
    devices work, and nobody waits for it.
    """

    def __init__(self):
        self._pending = None
        if count() > 1:
            mesh = Mesh(jax.devices(), ("devices",))
            self._split = NamedSharding(mesh, PartitionSpec("devices"))
            self._highest = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def any(self, flag: bool) -> bool:
        """Whether one of them has."""
        if count() == 1:
            return flag
        own = np.full(jax.local_device_count(), flag, np.int32)
        before = self._pending
        self._pending = self._highest(jax.make_array_from_process_local_data(self._split, own))
        return before is not None and bool(before)


class Together:
    """A context for a whole run. An error in one process of several ends that process at once, which ends the others.

    An ordinary exit would wait for the others, and they wait for this one's part of a collective. A process that
    finds another one gone says so. At the end of a run all wait for the last, and end without the interpreter's
    cleaning up: JAX's objects can then wait for each other for ever (two of four runs on CPUs, jax 0.10.2).
    """

    def __enter__(self) -> "Together":
        return self

    def __exit__(self, kind, error, _) -> None:
        if jax.process_count() == 1:
            return
        if error is None:
            barrier("end")
            jax.distributed.shutdown()
            _leave(0)
        if isinstance(error, jax.errors.JaxRuntimeError) and any(word in str(error) for word in _LOST):
            logging.debug("where it happened", exc_info=error)
            message = f"another process has ended or cannot be reached: {_first_line(error)}. {_AGAIN}"
        elif isinstance(error, (JaxganError, OSError)):
            message = str(error)
        else:
            message = "".join(traceback.format_exception(error))
        sys.stderr.write(f"\nerror: process {jax.process_index()} of {jax.process_count()}: {message}\n")
        if is_main():  # the coordinator's end kills the others, which may have the same to say
            time.sleep(_LAST_WORDS)
        _leave(1)


def _leave(status: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def _client():
    from jax._src import distributed  # JAX shows no other way to its coordinator; Orbax takes this one too

    return distributed.global_state.client


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
