"""Cut states against whole ones: the pieces, the update, its program, and runs that change from one to the other."""

import shutil
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from jax.sharding import Mesh, PartitionSpec

from jaxgan.aot import hlo
from jaxgan.evaluate import load_trained
from jaxgan.games import standard
from jaxgan.losses import ADVERSARIAL, weight_clipping
from jaxgan.models import dcgan, mlp
from jaxgan.optim import Lookahead, Optimizer, Optimizers, make_optimizer
from jaxgan.parallel import Parallel
from jaxgan.sampling import Generator
from jaxgan.shares import SMALLEST, Shares, dimension
from jaxgan.state import CUT
from jaxgan.train import train
from tests import ring
from tests.runs import assert_close_rows, rows
from tests.small import SHAPE, assert_close, assert_equal, make_step, new_state, pictures, plain, settings

BATCH = 8


@pytest.mark.parametrize(
    "shape, count, expected",
    [
        ((4, 4, 64, 128), 4, 3),  # the longest
        ((4, 4, 128, 64), 4, 2),
        ((64, 64), 4, 0),  # the first of the longest
        ((100, 999), 4, 0),  # the longest that divides
        ((63, 999), 4, None),
        ((SMALLEST,), 4, 0),
        ((SMALLEST - 4,), 4, None),  # too small
        ((64, 64), 1, None),
        ((64, 64), 128, None),
        ((), 4, None),
        ((0, 4), 4, None),
    ],
)
def test_along_which_dimension_an_array_is_cut(shape, count, expected):
    assert dimension(shape, count) == expected


def per_device():
    """For each of four devices a tree of its own, [4, ...]: cut along the first and the last dimension, and whole."""
    shapes = {"first": (128, 64), "last": (3, 5, 4096), "small": (7,), "number": ()}
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(4, *shape)).astype(np.float32) for name, shape in shapes.items()}


def on_devices(function, trees):
    """`function(tree)` on each of four devices; results [4, ...]."""

    def one(tree):
        return jax.tree.map(lambda x: x[None], function(jax.tree.map(lambda x: x[0], tree)))

    mesh, split = Mesh(jax.devices()[:4], ("d",)), PartitionSpec("d")
    return jax.jit(jax.shard_map(one, mesh=mesh, in_specs=split, out_specs=split, check_vma=False))(trees)


def test_the_shares_of_a_mean_make_the_mean():
    trees, shares = per_device(), Shares("d", is_cut=True)
    means = jax.tree.map(lambda x: x.mean(axis=0), trees)
    found = on_devices(shares.mean, trees)
    assert {name: x.shape[1:] for name, x in found.items()} == {
        "first": (32, 64), "last": (3, 5, 1024), "small": (7,), "number": ()
    }  # fmt: skip
    for i in range(4):
        parts = {**means, "first": np.split(means["first"], 4)[i], "last": np.split(means["last"], 4, axis=2)[i]}
        assert_close(jax.tree.map(lambda x, i=i: x[i], found), parts, rtol=1e-5, atol=1e-6)
    gathered = on_devices(lambda tree: shares.whole(shares.mean(tree), tree), trees)
    for i in range(4):
        assert_close(jax.tree.map(lambda x, i=i: x[i], gathered), means, rtol=1e-5, atol=1e-6)
    norms = on_devices(lambda tree: shares.norm(shares.mean(tree), tree), trees)
    expected = np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in means.values()))
    np.testing.assert_allclose(norms, [expected] * 4, rtol=1e-5)


def test_own_shares_are_those_of_the_mean_and_make_the_whole():
    trees, shares = per_device(), Shares("d", is_cut=True)
    same = jax.tree.map(lambda x: np.stack([x[0]] * 4), trees)
    assert_close(on_devices(shares.own, same), on_devices(shares.mean, same), rtol=1e-6, atol=1e-6)
    whole = on_devices(lambda tree: shares.whole(shares.own(tree), tree), same)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(whole), same)


@pytest.mark.parametrize("shares", [Shares(), Shares(None, is_cut=True)], ids=["whole", "one device"])
def test_one_device_has_everything(shares):
    tree = jax.tree.map(lambda x: x[0], per_device())
    assert shares.mean(tree) is tree
    jax.tree.map(np.testing.assert_array_equal, (shares.own(tree), shares.whole(tree, tree)), (tree, tree))
    expected = np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in tree.values()))
    assert float(shares.norm(tree, tree)) == pytest.approx(expected, rel=1e-5)


def wide(family):
    """A game of small pictures, with a large array on each side."""
    if family == "dcgan":
        networks = dcgan.Generator(shape=SHAPE, widths=(64, 32)), dcgan.Discriminator(widths=(16, 64))
    else:
        generator = mlp.Generator(shape=SHAPE, hidden=(64,), batch_norm=True)
        networks = generator, mlp.Discriminator(hidden=(128,), dropout=0.0)
    return standard.make_game(*networks, ADVERSARIAL["non_saturating"], latent_size=6)


def adam(**options):
    # With a large eps steps are nearly proportional to the gradient: else a rounding error near zero makes a whole one.
    optimizer = Optimizer(make_optimizer("adam", learning_rate=1e-2, b1=0.5, b2=0.99, eps=1e-2))
    return Optimizers(optimizer, optimizer)._replace(**options)


class Run:
    """A compiled update on four devices, and its state."""

    def __init__(self, game, optimizers, config, cut=()):
        parallel = Parallel("shard_map", jax.devices()[:4], cut)
        self.state = parallel.create(lambda: new_state(game, optimizers))
        self.start = plain(self.state)
        self._inputs = parallel.split(jnp.arange(BATCH * config.d_steps)), parallel.replicate(pictures())
        call = parallel.compile(make_step(game, optimizers, config), shared=1)
        self.compiled = call.lower(self.state, *self._inputs).compile()

    def train(self, steps):
        """The metrics of all steps, each [steps]."""
        rows = []
        for _ in range(steps):
            self.state, metrics = self.compiled(self.state, *self._inputs)
            rows.append(metrics)
        return jax.tree.map(lambda *x: np.stack(x), *rows)


@pytest.fixture(scope="module")
def whole():
    return Run(wide("mlp"), adam(), settings(d_steps=2))


@pytest.fixture(scope="module")
def cut():
    return Run(wide("mlp"), adam(), settings(d_steps=2), CUT)


def test_a_state_is_made_in_shares(whole, cut):
    assert any(not x.is_fully_replicated for x in jax.tree.leaves(cut.state.ema_g))
    assert_close(cut.start, whole.start, rtol=1e-6, atol=0)  # not to the bit, where XLA:CPU is told not to optimise
    assert_equal(cut.start.ema_g, cut.start.params_g)


def bytes_on_each_device(state):
    """Of the fields that may be cut."""
    leaves = jax.tree.leaves([getattr(state, name) for name in CUT])
    return {d: sum(s.data.nbytes for x in leaves for s in x.addressable_shards if s.device == d) for d in jax.devices()}


def test_each_device_holds_a_share(whole, cut):
    state = cut.state
    everything = sum(x.nbytes for name in CUT for x in jax.tree.leaves(getattr(state, name)))
    (on_one,) = set(bytes_on_each_device(whole.state).values())
    (share,) = set(bytes_on_each_device(state).values())
    large = 4 * (3 * 64 * 64 + 2 * 64 * 128)  # bytes: two moments of each side's large kernel, and one's average
    assert on_one == everything and share == everything - 3 / 4 * large < 0.35 * everything
    assert {x.shape for x in jax.tree.leaves(state.ema_g)} == {x.shape for x in jax.tree.leaves(state.params_g)}
    rest = [getattr(state, name) for name in state.__dataclass_fields__ if name not in CUT]
    assert all(x.is_fully_replicated for x in jax.tree.leaves(rest))


def test_what_travels_is_each_gradient_scattered_and_each_parameter_gathered(whole, cut):
    large = {64 * 64: 1, 64 * 128: 2}  # the generator's at its step, the discriminator's at each of two
    sizes = {x.size for x in jax.tree.leaves((cut.state.params_g, cut.state.params_d))}
    assert {n for n in sizes if n >= SMALLEST} == set(large)
    found = {kind: Counter() for kind in ("reduce-scatter", "all-gather", "all-reduce")}
    for c in hlo.count(cut.compiled.as_text()).collectives:
        for size in c.sizes:
            found[c.kind][size] += round(c.times) if size >= SMALLEST else 0
    assert +found["reduce-scatter"] == +found["all-gather"] == large and not +found["all-reduce"]

    def wire(run):  # of an all-reduce, both its halves
        collectives = hlo.count(run.compiled.as_text()).collectives
        return sum(c.times * c.bytes * (2 if c.kind == "all-reduce" else 1) for c in collectives)

    assert wire(cut) == pytest.approx(wire(whole), rel=1e-2)  # one number more, for the gradients' norm


def assert_same_after(steps, cut, whole):
    found, expected = cut.train(steps), whole.train(steps)
    assert_close(found, expected, rtol=1e-3, atol=1e-5)
    assert_close(cut.state, whole.state, rtol=1e-3, atol=1e-5)
    assert not all(x.is_fully_replicated for x in jax.tree.leaves(cut.state.opt_d))


def test_a_cut_state_is_the_same_run(whole, cut):
    before = bytes_on_each_device(cut.state)
    assert_same_after(20, cut, whole)
    assert bytes_on_each_device(cut.state) == before
    averages, params = (jax.tree.leaves(x) for x in (cut.state.ema_g, cut.state.params_g))
    assert max(float(np.abs(np.asarray(a) - p).max()) for a, p in zip(averages, params, strict=True)) > 1e-3


@pytest.mark.slow
def test_a_cut_dcgan_is_the_same_run():
    assert_same_after(20, *(Run(wide("dcgan"), adam(), settings(d_steps=2), fields) for fields in (CUT, ())))


@pytest.mark.slow
def test_a_box_for_the_weights_steps_back_and_shared_samples():
    optimizers = adam(lookahead=Lookahead(2, 0.5))
    optimizers = optimizers._replace(discriminator=optimizers.discriminator._replace(box=weight_clipping(0.05)))
    cut, whole = (Run(wide("mlp"), optimizers, settings(share_fake=True), fields) for fields in (CUT, ()))
    assert_same_after(3, cut, whole)  # a step back after the second, and one more into the box
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(cut.state.params_d)) == pytest.approx(0.05)


def config_of(**overrides):
    """A run with evaluations and checkpoints, of networks that have something to cut."""
    config = ring.get_config()
    config.model.generator.hidden = config.model.discriminator.hidden = (64, 64)
    config.eval.every, config.parallel = "10 steps", "shard_map"
    config.update_from_flattened_dict(overrides)
    return config


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    return workdir, train(config_of(), workdir)


@pytest.fixture(scope="module")
def cut_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("cut") / "run"
    return workdir, train(config_of(shard_state=True), workdir)


def test_a_run_with_a_cut_state_leaves_a_record_like_any_other(cut_run):
    """Pictures and evaluations, which need the whole average, and checkpoints of whole arrays."""
    workdir, state = cut_run
    assert not all(x.is_fully_replicated for x in jax.tree.leaves(state.opt_d))
    measured = [row["swd16_train_raw"] for row in rows(workdir) if "swd16_train_raw" in row]
    assert len(measured) == 2
    last = load_trained(workdir)  # on one device
    assert_equal(last.state, state)
    assert int(load_trained(workdir, "best").state.step) == 10 * (1 + measured.index(min(measured)))
    generator, key = Generator(last.game), jax.random.key(0)
    np.testing.assert_array_equal(generator.samples(state, key, 9), generator.samples(last.state, key, 9))


def assert_same_run(a, b):
    assert len(rows(a[0])) == 20
    assert_close_rows(a[0], b[0], rel=1e-3)
    for name in ("params_g", "params_d", "ema_g", "opt_g", "opt_d", "variables"):
        assert_close(getattr(a[1], name), getattr(b[1], name), rtol=1e-3, atol=1e-5)


def go_on(run, tmp_path, **overrides):
    """Half of a run, and the rest with another layout."""
    shutil.copytree(run[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "20")
    return tmp_path / "run", train(config_of(**overrides), tmp_path / "run")


@pytest.mark.slow
def test_a_run_with_a_cut_state_is_the_same_run(whole_run, cut_run):
    assert_same_run(cut_run, whole_run)
    names = [sorted(file.name for file in (run[0] / "samples").iterdir()) for run in (cut_run, whole_run)]
    assert names[0] == names[1]


@pytest.mark.slow
@pytest.mark.parametrize("mode, devices", [("pmap", 4), ("shard_map", 4), ("jit", 1)])
def test_a_checkpoint_of_a_cut_state_goes_on_whole(mode, devices, cut_run, whole_run, tmp_path):
    run = go_on(cut_run, tmp_path, parallel=mode)
    assert all(x.is_fully_replicated and len(x.devices()) == devices for x in jax.tree.leaves(run[1]))
    assert_same_run(run, whole_run)


@pytest.mark.slow
def test_a_checkpoint_of_a_whole_state_goes_on_cut_and_compiled_once(cut_run, whole_run, tmp_path, caplog):
    logging.use_python_logging(quiet=True)
    run = go_on(whole_run, tmp_path, shard_state=True)
    assert bytes_on_each_device(run[1]) == bytes_on_each_device(cut_run[1])
    assert_same_run(run, whole_run)
    train(config_of(shard_state=True, duration="4 steps"), tmp_path / "new")
    assert "again" not in caplog.text
