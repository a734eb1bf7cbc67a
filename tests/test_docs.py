"""The pages' code blocks run, in order, as a reader would paste them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import losses, metrics
from jaxgan.metrics import features


@pytest.fixture
def blocks(root):
    return re.findall(r"```python\n(.*?)```", (root / "docs" / "losses.md").read_text(), re.DOTALL)


def test_the_examples_of_the_losses_page_run(blocks):
    pytest.importorskip("equinox")
    rng = np.random.default_rng(0)
    scope = {
        "params": {"w1": jnp.asarray(rng.normal(size=(2, 8)), jnp.float32), "w2": jnp.ones((8, 1))},
        "real": jnp.asarray(rng.normal(size=(4, 2)), jnp.float32),
        "fake": jnp.asarray(rng.normal(size=(4, 2)), jnp.float32),
        "key": jax.random.key(0),
        "step": 32,
    }
    plain, equinox, spectral, lazy = blocks
    exec(plain, scope)
    assert all(np.isfinite(g).all() and np.any(g) for g in jax.tree.leaves(scope["grads"]))
    exec(equinox, scope)
    assert np.isfinite(scope["grads"].layers[0].weight).all() and np.any(scope["grads"].layers[0].weight)
    exec(spectral, scope)
    assert scope["logits"].shape == (4,)
    for kernel in losses.spectral.kernels(scope["normalized"]).values():
        np.testing.assert_allclose(np.linalg.svd(kernel, compute_uv=False)[0], 1.0, rtol=0.02)
    critic = jax.vmap(scope["model"])
    exec(lazy, {**scope, "critic": critic})


def test_the_example_of_the_metrics_page_runs(root, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", (root / "docs" / "metrics.md").read_text(), re.DOTALL)
    rng = np.random.default_rng(0)
    scope = {"real": rng.normal(size=(50, 3)), "fake": rng.normal(size=(40, 3))}
    exec(block, scope)
    assert all(np.isfinite(float(number)) for number in capsys.readouterr().out.split())


def test_the_metrics_page_names_every_metric_and_every_network(root):
    text = (root / "docs" / "metrics.md").read_text()
    table = set(re.findall(r"^\| (`[a-z0-9_`, ]+) \|", text, re.MULTILINE))
    named = {name for row in table for name in re.findall(r"`([a-z0-9_]+)`", row)}
    assert named == {name for name in metrics.__all__ if name in named} | set(features.NAMES)
    helpers = {"label_histogram", "log_mel", "mean_and_covariance", "nearest", "reverse_kl"}
    for name in metrics.__all__:
        assert name in text or name in helpers or name[0].isupper(), name
        assert getattr(metrics, name).__doc__


def test_the_losses_page_names_real_functions_only(root):
    text = (root / "docs" / "losses.md").read_text()
    endings = "penalty|loss|regularization|clipping|init|iterate|normalize"
    for name in re.findall(rf"`(?:losses\.)?([a-z0-9_]+_(?:{endings}))`", text):
        assert name in losses.__all__, name
    for name in re.findall(r"^\| `([a-z_]+)` ", text, re.MULTILINE):
        assert name in losses.ADVERSARIAL or name in losses.__all__, name
