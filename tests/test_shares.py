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
from jaxgan.evaluate import evaluate, load_trained, sample
from jaxgan.games import standard
from jaxgan.losses import ADVERSARIAL, weight_clipping
from jaxgan.models import dcgan, mlp
from jaxgan.optim import Lookahead, Optimizer, Optimizers, make_optimizer
from jaxgan.parallel import Parallel
from jaxgan.shares import SMALLEST, Shares, dimension
from jaxgan.state import CUT, fingerprint
from jaxgan.train import train
from tests import ring
from tests.runs import rows
from tests.small import SHAPE, assert_close, assert_equal, make_step, new_state, pictures, settings

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


def wide_game():
    """A DCGAN of small pictures, with a kernel on each side that is cut."""
    networks = dcgan.Generator(shape=SHAPE, widths=(64, 32)), dcgan.Discriminator(widths=(16, 64))
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
        self._inputs = parallel.split(jnp.arange(BATCH * config.d_steps)), parallel.replicate(pictures())
        call = parallel.compile(make_step(game, optimizers, config), shared=1)
        self.compiled = call.lower(self.state, *self._inputs).compile()

    def train(self, steps):
        """The metrics of all steps, each [steps]. (A program raises that makes another layout than it takes.)"""
        rows = []
        for _ in range(steps):
            self.state, metrics = self.compiled(self.state, *self._inputs)
            rows.append(metrics)
        return jax.tree.map(lambda *x: np.stack(x), *rows)


@pytest.fixture(scope="module")
def whole():
    return Run(wide_game(), adam(), settings(d_steps=2))


@pytest.fixture(scope="module")
def cut():
    return Run(wide_game(), adam(), settings(d_steps=2), CUT)


def test_a_state_is_made_in_shares():
    def make():
        return new_state(wide_game(), adam())

    made = [Parallel("shard_map", jax.devices()[:4], fields).create(make) for fields in ((), CUT)]
    assert any(not x.is_fully_replicated for x in jax.tree.leaves(made[1].ema_g))
    assert_close(made[1], made[0], rtol=1e-6, atol=0)  # not to the bit, where XLA:CPU is told not to optimise
    assert_equal(made[1].ema_g, made[1].params_g)
    together = jax.device_put(made[1], made[0].step.sharding)
    assert int(fingerprint(made[1])) == int(fingerprint(together))


def bytes_on_each_device(state):
    """Of the fields that may be cut."""
    leaves = jax.tree.leaves([getattr(state, name) for name in CUT])
    return {d: sum(s.data.nbytes for x in leaves for s in x.addressable_shards if s.device == d) for d in jax.devices()}


def test_each_device_holds_a_share(whole, cut):
    state = cut.state
    everything = sum(x.nbytes for name in CUT for x in jax.tree.leaves(getattr(state, name)))
    (on_one,) = set(bytes_on_each_device(whole.state).values())
    (share,) = set(bytes_on_each_device(state).values())
    assert on_one == everything and share < 0.3 * everything
    assert {x.shape for x in jax.tree.leaves(state.ema_g)} == {x.shape for x in jax.tree.leaves(state.params_g)}
    rest = [getattr(state, name) for name in state.__dataclass_fields__ if name not in CUT]
    assert all(x.is_fully_replicated for x in jax.tree.leaves(rest))


def test_what_travels_is_each_gradient_scattered_and_each_parameter_gathered(whole, cut):
    large = {4 * 4 * 64 * 32: 1, 4 * 4 * 16 * 64: 2}  # the generator's at its step, the discriminator's at each of two
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

    assert wire(cut) == pytest.approx(wire(whole), rel=1e-3)


def test_a_cut_state_is_the_same_run(whole, cut):
    rows = [run.train(20) for run in (whole, cut)]
    assert_close(rows[1], rows[0], rtol=1e-3, atol=1e-5)
    for name in whole.state.__dataclass_fields__:
        assert_close(getattr(cut.state, name), getattr(whole.state, name), rtol=1e-3, atol=1e-5)
    assert float(np.abs(jax.tree.leaves(cut.state.ema_g)[0] - jax.tree.leaves(cut.state.params_g)[0]).max()) > 1e-4
    (share,) = set(bytes_on_each_device(cut.state).values())
    assert share < 0.3 * sum(x.nbytes for name in CUT for x in jax.tree.leaves(getattr(cut.state, name)))


def test_a_box_for_the_weights_steps_back_and_shared_samples():
    networks = mlp.Generator(shape=SHAPE, hidden=(64,)), mlp.Discriminator(hidden=(64,), dropout=0.0)
    game, config = standard.make_game(*networks, ADVERSARIAL["hinge"], latent_size=6), settings(share_fake=True)
    optimizers = adam(lookahead=Lookahead(2, 0.5))
    optimizers = optimizers._replace(discriminator=optimizers.discriminator._replace(box=weight_clipping(0.05)))
    runs = [Run(game, optimizers, config, fields) for fields in ((), CUT)]
    assert not all(x.is_fully_replicated for x in jax.tree.leaves(runs[1].state.opt_d))
    rows = [run.train(3) for run in runs]  # a step back after the second, and one more into the box
    assert_close(rows[1], rows[0], rtol=1e-3, atol=1e-5)
    assert_close(runs[1].state, runs[0].state, rtol=1e-3, atol=1e-5)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(runs[1].state.params_d)) == pytest.approx(0.05)


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


def assert_same_run(a, b):
    found, expected = rows(a[0]), rows(b[0])
    assert len(found) == len(expected) == 20
    for x, y in zip(found, expected, strict=True):
        assert x.keys() == y.keys()
        assert x == pytest.approx(y, rel=1e-3, abs=1e-5)
    for name in ("params_g", "params_d", "ema_g", "opt_g", "opt_d", "variables"):
        assert_close(getattr(a[1], name), getattr(b[1], name), rtol=1e-3, atol=1e-5)


def test_a_run_with_a_cut_state_is_the_same_run(whole_run, cut_run):
    """Its evaluations, pictures and samples included, which need the whole average."""
    assert_same_run(cut_run, whole_run)
    assert any(not x.is_fully_replicated for x in jax.tree.leaves(cut_run[1].opt_d))
    names = [sorted(file.name for file in (run[0] / "samples").iterdir()) for run in (cut_run, whole_run)]
    assert names[0] == names[1]
    steps = [int(load_trained(run[0], "best").state.step) for run in (cut_run, whole_run)]
    assert steps[0] == steps[1]
    drawn = [np.load(sample(run[0], 37)[0])["arr_0"] for run in (cut_run, whole_run)]
    np.testing.assert_allclose(drawn[0], drawn[1], rtol=1e-3, atol=1e-4)
    assert "swd37_train_raw" in evaluate(cut_run[0], checkpoints=("last",), num_samples=37)


def test_nothing_is_compiled_twice(tmp_path, caplog):
    logging.use_python_logging(quiet=True)
    train(config_of(shard_state=True, duration="4 steps"), tmp_path / "run")
    assert "again" not in caplog.text


@pytest.mark.parametrize("devices", [4, 1], ids=["four devices", "one device"])
def test_a_checkpoint_of_a_cut_state_goes_on_whole(devices, cut_run, whole_run, tmp_path):
    shutil.copytree(cut_run[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "20")
    state = train(config_of(parallel="pmap" if devices == 4 else "jit"), tmp_path / "run")
    assert all(x.is_fully_replicated and len(x.devices()) == devices for x in jax.tree.leaves(state))
    assert_same_run((tmp_path / "run", state), whole_run)


def test_a_checkpoint_of_a_whole_state_goes_on_cut(cut_run, whole_run, tmp_path):
    shutil.copytree(whole_run[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "20")
    state = train(config_of(shard_state=True), tmp_path / "run")
    assert bytes_on_each_device(state) == bytes_on_each_device(cut_run[1])
    assert_same_run((tmp_path / "run", state), whole_run)
