from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import ConfigError
from jaxgan.models import conditioning
from jaxgan.models.conditioning import AdaIN, ConditionalBatchNorm, Judge, Modulation
from tests.models import plain

close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
LABEL = np.array([2, 0, 1, 2])


def normal(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def in_training(module, params, *args):
    return jax.jit(partial(module.apply, train=True, mutable=["batch_stats"]))({"params": params}, *args)


def initial(module, *args, **kwargs):
    return jax.jit(partial(module.init, **kwargs))(jax.random.key(0, impl="rbg"), *args)["params"]


CONDITIONS = {
    "none": (ConditionalBatchNorm(), None),
    "labels": (ConditionalBatchNorm(classes=3), LABEL),
    "a vector": (ConditionalBatchNorm(), normal(4, 5)),
    "self-modulation": (ConditionalBatchNorm(hidden=7), normal(4, 5)),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditional_batch_norm_against_its_formula(name):
    norm, condition = CONDITIONS[name]
    x = 3 + 2 * normal(4, 5, 3, 6)
    params = plain.random_params(norm, x, condition, train=True)
    out, updated = in_training(norm, params, x, condition)
    close(out, plain.norm(plain.to_numpy(params), x, condition))
    running = updated["batch_stats"]["norm"]
    close(running["mean"], 0.1 * x.mean((0, 1, 2)))
    close(running["var"], 0.9 + 0.1 * x.var((0, 1, 2)))
    at_rest = norm.apply({"params": params, **updated}, x, condition, train=False)
    # Bring the running statistics into the formula through the batch's own.
    scale = np.sqrt((x.var((0, 1, 2)) + 1e-5) / (running["var"] + 1e-5))
    shift = (x.mean((0, 1, 2)) - running["mean"]) / np.sqrt(running["var"] + 1e-5)
    unit = {"norm": {"scale": 1.0, "bias": 0.0}}
    expected = plain.norm(unit, x.astype(np.float64)) * scale + shift
    if condition is None:
        close(at_rest, expected * params["norm"]["scale"] + params["norm"]["bias"])
    else:
        gain, bias = plain.modulation(plain.to_numpy(params["Modulation_0"]), condition)
        close(at_rest, expected * gain[:, None, None] + bias[:, None, None], rtol=1e-4)


def test_which_parameters_a_condition_brings():
    x = normal(4, 2, 2, 6)

    def shapes(name):
        norm, condition = CONDITIONS[name]
        return jax.tree.map(np.shape, plain.random_params(norm, x, condition, train=True))

    assert shapes("none") == {"norm": {"scale": (6,), "bias": (6,)}}
    table, linear, affine = {"embedding": (3, 6)}, {"kernel": (5, 6)}, {"kernel": (7, 6), "bias": (6,)}
    assert shapes("labels") == {"Modulation_0": {"scale": table, "bias": table}}
    assert shapes("a vector") == {"Modulation_0": {"scale": linear, "bias": linear}}
    hidden = {"kernel": (5, 7), "bias": (7,)}
    assert shapes("self-modulation") == {"Modulation_0": {"hidden": hidden, "scale": affine, "bias": affine}}


def test_labels_gain_starts_at_one_and_bias_at_zero():
    modulation = Modulation(200, classes=50)
    label = np.arange(50)
    scale, bias = modulation.apply({"params": initial(modulation, label)}, label)
    np.testing.assert_allclose([jnp.mean(scale), jnp.std(scale)], [1.0, 0.02], atol=1e-3)
    np.testing.assert_array_equal(bias, 0.0)
    assert len(np.unique(scale[:, 0])) == 50


@pytest.mark.parametrize("hidden", [0, 32])
def test_vectors_gain_starts_at_one_and_bias_at_zero(hidden):
    """Exactly so for the vector 0, and in the mean over latents."""
    modulation = Modulation(20, hidden=hidden)
    z = np.concatenate([np.zeros((1, 40), np.float32), normal(2000, 40)])
    scale, bias = modulation.apply({"params": initial(modulation, z)}, z)
    np.testing.assert_array_equal(scale[0], 1.0)
    np.testing.assert_array_equal(bias[0], 0.0)
    if not hidden:
        np.testing.assert_allclose(jnp.mean(scale, 0), 1.0, atol=5 / 2000**0.5)
    assert jnp.std(scale) > 0.1


def test_plain_scale_starts_where_it_is_told_to():
    x = normal(4, 2, 2, 300)
    assert np.std(initial(ConditionalBatchNorm(), x, train=True)["norm"]["scale"]) > 0.01
    ones = ConditionalBatchNorm(scale_init=jax.nn.initializers.ones)
    np.testing.assert_array_equal(initial(ones, x, train=True)["norm"]["scale"], 1.0)


@pytest.mark.parametrize("name", CONDITIONS)
def test_over_a_mapped_axis_two_halves_are_as_the_whole(name):
    norm, condition = CONDITIONS[name]
    x = normal(4, 3, 3, 6) * np.arange(1, 5)[:, None, None, None].astype(np.float32)
    params = plain.random_params(norm, x, condition, train=True)
    whole, stats = in_training(norm, params, x, condition)

    def of_halves(axis_name):
        apply = partial(norm.clone(axis_name=axis_name).apply, {"params": params}, train=True, mutable=["batch_stats"])
        halves = jax.tree.map(lambda a: a.reshape(2, 2, *a.shape[1:]), (x, condition))
        out, stats = jax.jit(jax.vmap(apply, axis_name="batch"))(*halves)
        return out.reshape(x.shape), stats

    parts, part_stats = of_halves("batch")
    close(parts, whole)
    jax.tree.map(lambda a, b: close(a, np.stack([b, b])), part_stats, stats)
    assert jnp.max(jnp.abs(of_halves(None)[0] - whole)) > 0.1


def test_adain_against_its_formula():
    x, style = 3 + 2 * normal(4, 5, 3, 6), normal(4, 7)
    params = plain.random_params(AdaIN(), x, style)
    out = AdaIN().apply({"params": params}, x, style)
    scale, bias = plain.modulation(plain.to_numpy(params["Modulation_0"]), style)
    for i in range(4):
        for c in range(6):
            a = x[i, ..., c].astype(np.float64)
            close(out[i, ..., c], (a - a.mean()) / np.sqrt(a.var() + 1e-5) * scale[i, c] + bias[i, c])
    alone = AdaIN().apply({"params": params}, x[2:3], style[2:3])
    close(alone[0], out[2])
    at_zero = AdaIN().apply({"params": initial(AdaIN(), x, style)}, x, 0 * style)
    close(jnp.std(at_zero, axis=(1, 2)), 1.0, rtol=1e-4)


@pytest.mark.parametrize("shape", [(4, 6), (4, 5, 6), (4, 5, 3, 6)])
def test_modulate_is_by_example_and_channel(shape):
    x, scale, bias = normal(*shape), normal(4, 6, seed=2), normal(4, 6, seed=3)
    out = conditioning.modulate(x, scale, bias)
    assert out.shape == shape
    close(np.moveaxis(out, (0, -1), (0, 1))[2, 5], np.moveaxis(x, (0, -1), (0, 1))[2, 5] * scale[2, 5] + bias[2, 5])
    close(out[0], x[0] * scale[0] + bias[0])


def judged(judge, h, label=None):
    params = plain.random_params(judge, h, label)
    return judge.apply({"params": params}, h, label), plain.to_numpy(params)


@pytest.mark.parametrize("use_bias", [True, False])
def test_logits_without_and_with_projection(use_bias):
    h = normal(4, 6)
    logits, p = judged(Judge(use_bias=use_bias), h, LABEL)
    assert set(p) == {"logit"} and ("bias" in p["logit"]) == use_bias
    assert logits.shape == (4,)
    close(logits, plain.dense(p["logit"], h)[:, 0])
    logits, p = judged(Judge(classes=3, projection=True, use_bias=use_bias), h, LABEL)
    assert set(p) == {"logit", "projection"} and p["projection"]["embedding"].shape == (3, 6)
    expected = [h[i] @ (p["logit"]["kernel"][:, 0] + p["projection"]["embedding"][LABEL[i]]) for i in range(4)]
    close(logits, np.array(expected) + p["logit"].get("bias", 0.0))
    logits, p = judged(Judge(classes=3, projection=True), h)
    assert set(p) == {"logit"}


def test_heads_for_classes_and_codes():
    h = normal(4, 6)
    judge = Judge(classes=3, heads=("class", "code"), code_size=2)
    (logits, heads), p = judged(judge, h)
    close(logits, plain.dense(p["logit"], h)[:, 0])
    assert set(heads) == {"class", "code"} and heads["class"].shape == (4, 3) and heads["code"].shape == (4, 2)
    for name, value in heads.items():
        close(value, plain.dense(p[name], h))


def test_head_for_embeddings_gives_the_pictures_and_the_classes():
    h = normal(4, 6)
    (_, heads), p = judged(Judge(classes=3, heads=("embedding",), embedding_size=5), h, LABEL)
    assert set(heads) == {"embedding", "proxy"}
    close(heads["embedding"], plain.dense(p["embedding"], h))
    close(heads["proxy"], p["proxy"]["embedding"][LABEL])
    assert heads["proxy"].shape == (4, 5)


def test_weights_start_as_told():
    judge = Judge(
        classes=30,
        projection=True,
        heads=("class",),
        kernel_init=jax.nn.initializers.normal(0.5),
        embedding_init=jax.nn.initializers.normal(2.0),
    )
    params = initial(judge, normal(4, 100), LABEL)
    for value, std in ((params["class"]["kernel"], 0.5), (params["projection"]["embedding"], 2.0)):
        np.testing.assert_allclose(np.std(value), std, rtol=0.1)
    np.testing.assert_allclose(np.std(initial(Judge(), normal(4, 1000))["logit"]["kernel"]), 0.02, rtol=0.1)


@pytest.mark.parametrize(
    ("judge", "label", "message"),
    [
        (Judge(heads=("classes",)), LABEL, "no head 'classes'; known: class, code, embedding"),
        (Judge(heads=("class",)), LABEL, "head 'class' needs classes of at least 1, not 0"),
        (Judge(heads=("code",)), LABEL, "head 'code' needs code_size of at least 1, not 0"),
        (Judge(projection=True), LABEL, "projection needs labels .* got classes=0"),
        (Judge(classes=3, heads=("embedding",)), None, "proxy needs labels .* got no labels"),
    ],
)
def test_heads_that_cannot_be(judge, label, message):
    with pytest.raises(ConfigError, match=message):
        judge.init(jax.random.key(0), normal(4, 6), label)


def test_labels_are_concatenated_as_one_hot():
    x = normal(4, 6)
    out = conditioning.concatenate_label(x, LABEL, 3)
    np.testing.assert_array_equal(out, np.concatenate([x, np.eye(3)[LABEL]], axis=1))
    assert out.dtype == x.dtype
    assert conditioning.concatenate_label(x, None, 3) is x
