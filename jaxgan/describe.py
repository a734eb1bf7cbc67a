"""What a run would be, without running it: the resolved configuration, the networks' sizes, the device layout."""

import math

import jax
from ml_collections import ConfigDict

from jaxgan import build
from jaxgan.state import count_parameters


def describe(config: ConfigDict, workdir: str) -> str:
    """The text of `launch.py --dry_run`; finds the same mistakes that a run would find before its first update."""
    parallel = build.make_parallel(config)
    dataset = build.load_data(config)
    real = dataset.arrays["real"]
    experiment = build.make_experiment(config, real.shape[1:], len(real), build.label_counts(dataset))
    counting, state = experiment.counting, jax.eval_shape(experiment.new_state)
    leaves = jax.tree.leaves(parallel.abstract_state(state))
    size = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)
    total = counting.steps(config.duration)
    where = "streamed from disk" if dataset.is_streamed else "on every device"
    return "\n".join(
        [
            str(config),
            f"work folder     {workdir}",
            f"data            {dataset.name}: {len(real):,} examples of shape {real.shape[1:]}, {real.dtype}, {where}",
            f"generator       {count_parameters(state.params_g):,} parameters",
            f"discriminator   {count_parameters(state.params_d):,} parameters",
            f"state           {size / 2**20:.1f} MiB with optimizers and averages, on every device",
            f"devices         {parallel.describe()}",
            f"batch           {config.batch_size}, {config.batch_size // len(parallel.devices)} a device",
            f"length          {total:,} updates, {total * counting.images_per_step:,} images, "
            f"{counting.steps_per_call} update(s) a call",
        ]
    )
