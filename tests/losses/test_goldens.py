"""Every loss and penalty, with its gradient through networks, against PyTorch's autograd in float64.

goldens.npz was written by `python -m tests.losses.goldens` with PyTorch 2.13.0 from seed 0; goldens.py describes what
is in it and computes it. The test marked slow computes everything again, with that seed and another.

If the cases with a key alone fail after an update of JAX, its random numbers have changed: write the file again.
"""

import functools
import inspect
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import losses

PATH = pathlib.Path(__file__).with_name("goldens.npz")
OTHER_SEED = 3
# Relative to the largest entry of the value, or of the gradient by one input. Roundings are 6e-8 and 1e-16 each.
TOLERANCE = {"float32": 1e-5, "float64": 1e-9}
# Their normal random numbers are float32 in either precision, and the last bit of those depends on how a program was
# compiled. Uniform ones are exact.
NORMAL_DRAWS = ("dragan_penalty@gaussian", "path_length_penalty")

NOT_HERE = {
    "lazy_adam": "arithmetic of Python numbers",
    "lecam_init": "zeros, from which lecam_penalty starts here",
    "top_k_schedule": "a whole number from two, without a gradient",
}


# Networks, as in goldens.py, of the inputs by name.


def critic(t, x):
    h = jnp.tanh(x.reshape(len(x), -1) @ t["critic.w1"] + t["critic.b1"])
    return jax.nn.softplus(h @ t["critic.w2"] + t["critic.b2"]) @ t["critic.w3"]


def patch_features(t, x):
    patches = x.reshape(len(x), 3, 2, 3, 2, x.shape[-1])
    return jnp.tanh(jnp.einsum("bihjwc,hwco->bijo", patches, t["patches.w1"]) + t["patches.b1"])


def patch_critic(t, x):
    return patch_features(t, x) @ t["patches.w2"]


def features(t, x):
    return [jax.nn.softplus(x), patch_features(t, x)]


def generator(t, z):
    h = jnp.tanh(z @ t["generator.w1"] + t["generator.b1"])
    return jnp.tanh(h @ t["generator.w2"] + t["generator.b2"]).reshape(len(z), 6, 6, 2)


def styled_generator(t, w):
    first, second, third = (w[:, i] @ t["generator.w1"] for i in range(3))
    h = jnp.tanh(first + t["generator.b1"]) * jax.nn.softplus(second) + jnp.sin(third)
    return (h @ t["generator.w2"] + t["generator.b2"]).reshape(len(w), 6, 6, 2)


def augment(x):
    return 0.8 * x[:, :, ::-1] + 0.1


# Each function of jaxgan.losses on these inputs.


def adversarial():
    # By the names of their own parameters.
    for name in losses.__all__:
        if name.endswith(("_discriminator_loss", "_generator_loss")) and not name.startswith(("f_gan", "multi_hinge")):
            function = getattr(losses, name)
            takes = [name for name in inspect.signature(function).parameters if name.endswith("_logits")]
            yield name, lambda t, function=function, takes=takes: function(**{k: t[k] for k in takes})
            if name.startswith(("relativistic_average", "dual_contrastive")):
                yield (
                    f"{name}@patches",
                    lambda t, function=function, takes=takes: function(
                        **{k: t[k.replace("logits", "patch_logits")] for k in takes}
                    ),
                )
    for function in (losses.minimax_discriminator_loss, losses.non_saturating_discriminator_loss):
        yield (
            f"{function.__name__}@smoothed",
            lambda t, function=function: function(t["real_logits"], t["fake_logits"], label_smoothing=0.1),
        )


def f_gan():
    for name in losses.F_DIVERGENCES:
        yield (
            f"f_gan_discriminator_loss@{name}",
            lambda t, name=name: losses.f_gan_discriminator_loss(t["real_logits"], t["fake_logits"], divergence=name),
        )
        for variant, saturating in (("", True), ("_non_saturating", False)):
            yield (
                f"f_gan_generator_loss@{name}{variant}",
                lambda t, name=name, saturating=saturating: losses.f_gan_generator_loss(
                    t["fake_logits"], divergence=name, saturating=saturating
                ),
            )


def contrastive(function, t, **options):
    return function(t["embeddings"], t["class_proxies"][t["labels"]], t["labels"], **options)


def at(function, network, t, *names, key=False, **options):
    """A penalty of a network at some inputs, with a key or without."""
    keys = [jax.random.key(t["seed"])] if key else []
    return function(lambda x: network(t, x), *(t[name] for name in names), *keys, **options)


def path_length(network, t, name, decay=0.01):
    key = jax.random.key(t["seed"])
    return losses.path_length_penalty(lambda w: network(t, w), t[name], key, 0.5, decay=decay)


def keys_for_each(t):
    keys = jax.random.split(jax.random.key(t["seed"]), 4)
    return losses.wgan_gp_penalty(lambda x: patch_critic(t, x), t["real"], t["fake"], keys)


def lecam(t, **options):
    real, fake = t["real_logits"], t["fake_logits"]
    # The means keep the type that they start with.
    state = jax.tree.map(lambda x: x.astype(real.dtype) if x.dtype == jnp.float32 else x, losses.lecam_init())
    penalties = []
    for shift in (0.0, 1.0, -0.5, 0.7):
        penalty, state = losses.lecam_penalty(real + shift, fake + shift, state, **options)
        penalties.append(penalty)
    return jnp.stack(penalties)


def params(t):
    return {"dense": {"kernel": t["kernel"], "bias": t["bias"]}, "conv": {"kernel": t["conv_kernel"]}}


def lazy(t):
    steps = jnp.array([0, 3, 8])
    term = functools.partial(losses.r1_penalty, lambda x: patch_critic(t, x), t["real"])
    return jax.lax.map(lambda step: losses.lazy_regularization(term, step, 4), steps)


def clipped(t):
    transformation = losses.weight_clipping(0.4)
    state = transformation.init(t["kernel"])
    updates, _ = transformation.update(t["updates"], state, t["kernel"])
    return t["kernel"] + updates


def unrolled(t):
    def loss(params, real, fake):
        return losses.non_saturating_discriminator_loss(critic(params, real), critic(params, fake)).mean()

    now = {name: x for name, x in t.items() if name.startswith("critic.")}
    return critic(losses.unrolled(loss, 3, 0.05)(now, t["real"], t["fake"]), t["fake"])


def vectors(t):
    names = {"conv.kernel": "conv_kernel", "dense.kernel": "kernel"}
    return {path: losses.SpectralVectors(t[f"{name}.u"], t[f"{name}.v"]) for path, name in names.items()}


def flat_kernels(params):
    return jnp.concatenate([params["dense"]["kernel"].ravel(), params["conv"]["kernel"].ravel()])


def spectral_iterate(t):
    new = losses.spectral_iterate(params(t), vectors(t), 2)
    return jnp.concatenate([x for path in ("dense.kernel", "conv.kernel") for x in new[path]])


def spectral_outputs_first(t):
    weight = jnp.moveaxis(t["conv_kernel"], -1, 0)
    given = {"conv": vectors(t)["conv.kernel"]}
    return losses.spectral_normalize({"conv": weight}, given, out_axis=0)["conv"]


def spectral_converged(t):
    first = losses.spectral_init(jax.random.key(t["seed"]), params(t), iterations=1)
    found = jax.lax.fori_loop(0, 400, lambda _, found: losses.spectral_iterate(params(t), found), first)
    return flat_kernels(losses.spectral_normalize(params(t), found))


CASES: dict[str, Callable] = {
    **dict(adversarial()),
    "top_k_mask": lambda t: losses.top_k_mask(t["fake_logits"], 3),
    **dict(f_gan()),
    # classification
    "ac_gan_loss": lambda t: losses.ac_gan_loss(t["class_logits"], t["labels"]),
    "ac_gan_loss@patches": lambda t: losses.ac_gan_loss(t["patch_class_logits"], t["patch_labels"]),
    "rotation_loss": lambda t: losses.rotation_loss(t["patch_class_logits"], t["patch_labels"]).ravel(),
    "info_gan_categorical_loss": lambda t: losses.info_gan_categorical_loss(t["class_logits"], t["labels"]),
    "info_gan_gaussian_loss": lambda t: losses.info_gan_gaussian_loss(t["mean"], t["log_std"], t["codes"]),
    "multi_hinge_loss": lambda t: losses.multi_hinge_loss(t["class_logits"], t["labels"]),
    "multi_hinge_discriminator_loss": lambda t: losses.multi_hinge_discriminator_loss(
        t["class_logits"], t["fake_class_logits"], t["labels"]
    ),
    "multi_hinge_generator_loss": lambda t: losses.multi_hinge_generator_loss(t["fake_class_logits"], t["labels"]),
    "rotate_four_ways": lambda t: losses.rotate_four_ways(t["real"])[0],
    "rotate_four_ways@labels": lambda t: losses.rotate_four_ways(t["real"])[1],
    "conditional_contrastive_loss": lambda t: contrastive(losses.conditional_contrastive_loss, t),
    "conditional_contrastive_loss@temperature": lambda t: contrastive(
        losses.conditional_contrastive_loss, t, temperature=0.3
    ),
    "data_to_data_cross_entropy_loss": lambda t: contrastive(losses.data_to_data_cross_entropy_loss, t),
    "data_to_data_cross_entropy_loss@margin": lambda t: contrastive(
        losses.data_to_data_cross_entropy_loss, t, temperature=0.25, margin=0.6
    ),
    # penalties
    "r1_penalty": lambda t: at(losses.r1_penalty, critic, t, "real"),
    "r1_penalty@patches": lambda t: at(losses.r1_penalty, patch_critic, t, "real"),
    "r2_penalty": lambda t: at(losses.r2_penalty, critic, t, "fake"),
    "wgan_gp_penalty": lambda t: at(losses.wgan_gp_penalty, critic, t, "real", "fake", key=True),
    "wgan_gp_penalty@patches_and_target": lambda t: at(
        losses.wgan_gp_penalty, patch_critic, t, "real", "fake", key=True, target=0.3
    ),
    "wgan_gp_penalty@through_the_examples": lambda t: at(
        losses.wgan_gp_penalty, patch_critic, t, "real", "fake", key=True
    ),
    "wgan_gp_penalty@a_key_for_each_example": keys_for_each,
    "wgan_gp_penalty@one_sided": lambda t: at(
        losses.wgan_gp_penalty, critic, t, "real", "fake", key=True, one_sided=True
    ),
    "wgan_gp_penalty@no_slope": lambda t: at(
        losses.wgan_gp_penalty, lambda t, x: t["zero"] * patch_critic(t, x), t, "real", "fake", key=True
    ),
    "wgan_lp_penalty": lambda t: at(losses.wgan_lp_penalty, critic, t, "real", "fake", key=True),
    "wgan_lp_penalty@target": lambda t: at(
        losses.wgan_lp_penalty, patch_critic, t, "real", "fake", key=True, target=1.8
    ),
    "zero_centered_gp_penalty": lambda t: at(losses.zero_centered_gp_penalty, critic, t, "real", "fake", key=True),
    "dragan_penalty": lambda t: at(losses.dragan_penalty, critic, t, "real", key=True),
    "dragan_penalty@std_and_scale": lambda t: at(
        losses.dragan_penalty, patch_critic, t, "real", key=True, scale=0.3, std=1.7, target=0.4
    ),
    "dragan_penalty@gaussian": lambda t: at(
        losses.dragan_penalty, patch_critic, t, "real", key=True, noise="gaussian", scale=0.3
    ),
    "path_length_penalty": lambda t: path_length(generator, t, "z")[0],
    "path_length_penalty@styles": lambda t: path_length(styled_generator, t, "styles", decay=0.2)[0],
    "path_length_penalty@mean": lambda t: path_length(styled_generator, t, "styles", decay=0.2)[1],
    # consistency
    "consistency_penalty": lambda t: losses.consistency_penalty(t["real_logits"], t["fake_logits"]),
    "cr_penalty": lambda t: at(losses.cr_penalty, critic, t, "real", augment=augment),
    "cr_penalty@patches": lambda t: at(losses.cr_penalty, patch_critic, t, "real", augment=augment),
    "bcr_penalty": lambda t: at(losses.bcr_penalty, patch_critic, t, "real", "fake", augment=augment),
    "bcr_penalty@fake_weight": lambda t: at(
        losses.bcr_penalty, patch_critic, t, "real", "fake", augment=augment, fake_weight=0.4
    ),
    "zcr_discriminator_penalty": lambda t: losses.zcr_discriminator_penalty(
        lambda x: patch_critic(t, x), lambda z: generator(t, z), t["z"], lambda z: z + 0.2 * t["other_z"]
    ),
    "zcr_generator_penalty": lambda t: losses.zcr_generator_penalty(
        lambda z: generator(t, z), t["z"], lambda z: z + 0.2 * t["other_z"]
    ),
    "mode_seeking_penalty": lambda t: losses.mode_seeking_penalty(
        generator(t, t["z"]), generator(t, t["other_z"]), t["z"], t["other_z"]
    ),
    # regularizers
    "lecam_penalty": lecam,
    "lecam_penalty@late_start": lambda t: lecam(t, decay=0.8, start=2),
    "lecam_penalty@squares": lambda t: lecam(t, decay=0.9, rectified=False),
    "orthogonal_penalty": lambda t: losses.orthogonal_penalty(params(t)),
    "orthogonal_penalty@where": lambda t: losses.orthogonal_penalty(params(t), lambda path, leaf: "conv" in path),
    "orthogonal_penalty@out_axis_0": lambda t: losses.orthogonal_penalty([t["conv_kernel"]], out_axis=0),
    "l2_penalty": lambda t: losses.l2_penalty(params(t)),
    "weight_clipping": clipped,
    "lazy_regularization": lazy,
    # transforms
    "unrolled": unrolled,
    "pack": lambda t: losses.pack(t["real"], 2),
    # spectral
    "spectral_normalize": lambda t: flat_kernels(losses.spectral_normalize(params(t), vectors(t))),
    "spectral_normalize@out_axis_0": spectral_outputs_first,
    "spectral_iterate": spectral_iterate,
    "spectral_init": spectral_converged,
    # auxiliary
    "l1_loss": lambda t: losses.l1_loss(t["mean"], t["codes"]),
    "l2_loss": lambda t: losses.l2_loss(t["mean"], t["codes"]),
    "charbonnier_loss": lambda t: losses.charbonnier_loss(t["mean"], t["codes"]),
    "charbonnier_loss@eps": lambda t: losses.charbonnier_loss(t["mean"], t["codes"], eps=0.5),
    "cycle_loss": lambda t: losses.cycle_loss(t["mean"], t["codes"]),
    "identity_loss": lambda t: losses.identity_loss(t["mean"], t["codes"]),
    "feature_matching_loss": lambda t: losses.feature_matching_loss(features(t, t["real"]), features(t, t["fake"])),
    "mean_feature_matching_loss": lambda t: losses.mean_feature_matching_loss(
        features(t, t["real"]), features(t, t["fake"][:3])
    ),
    "total_variation": lambda t: losses.total_variation(t["oblong"]),
    "perceptual_loss": lambda t: losses.perceptual_loss(lambda x: features(t, x), t["fake"], t["real"]),
    "perceptual_loss@normalize": lambda t: losses.perceptual_loss(
        lambda x: features(t, x), t["fake"], t["real"], normalize=True
    ),
    # variational
    "gaussian_kl": lambda t: losses.gaussian_kl(t["mean"], t["log_std"]),
    "bernoulli_nll": lambda t: losses.bernoulli_nll(t["mean"], t["shares"]),
    "gaussian_nll": lambda t: losses.gaussian_nll(t["mean"], t["codes"]),
    "gaussian_nll@log_variance": lambda t: losses.gaussian_nll(t["mean"], t["codes"], t["log_std"]),
    "vq_codebook_loss": lambda t: losses.vq_codebook_loss(t["mean"], t["codes"]),
    "vq_commitment_loss": lambda t: losses.vq_commitment_loss(t["mean"], t["codes"]),
    "straight_through": lambda t: losses.straight_through(t["mean"], t["codes"]),
}


@functools.cache
def stored() -> dict[str, np.ndarray]:
    with np.load(PATH) as file:
        return dict(file)


def room(name: str) -> str:
    """The module that a case's function is from."""
    return getattr(losses, name.partition("@")[0]).__module__


def differentiated(goldens) -> dict[str, tuple[str, ...]]:
    """By which inputs there are gradients, for each case."""
    names = (key.removeprefix("grad/").split(" ") for key in goldens if key.startswith("grad/"))
    return {name: tuple(by) for name, *by in names}


# One program for each room: a program for each case takes twice as long to compile, and optimising it most of that.
@functools.partial(jax.jit, static_argnums=(0, 1), compiler_options={"xla_backend_optimization_level": 0})
def evaluate(module: str, by: tuple[tuple[str, tuple[str, ...]], ...], inputs: dict[str, jax.Array]):
    """{case: (value, gradients of its weighted mean)} of all cases of a room."""

    def mean(varied, name):
        value = CASES[name](inputs | varied)
        weights = (1.0 + 0.5 * np.cos(np.arange(value.size))).reshape(value.shape)
        return (jnp.asarray(weights, value.dtype) * value).mean(), value

    def one(name):
        if name not in dict(by):
            return mean({}, name)[1], {}
        varied = {key: inputs[key] for key in dict(by)[name]}
        (_, value), grads = jax.value_and_grad(mean, has_aux=True)(varied, name)
        return value, grads

    return {name: one(name) for name in CASES if room(name) == module}


def results(goldens: dict[str, np.ndarray], module: str, precision: str):
    """What jaxgan makes of the inputs of goldens."""
    with jax.enable_x64(precision == "float64"):
        inputs = {key.removeprefix("input/"): jnp.asarray(x) for key, x in goldens.items() if key.startswith("input/")}
        assert inputs["real"].dtype == precision
        return jax.device_get(evaluate(module, tuple(differentiated(goldens).items()), inputs))


@functools.cache
def stored_results(module: str, precision: str):
    return results(stored(), module, precision)


def check(name: str, goldens: dict[str, np.ndarray], result, precision: str):
    """Value and gradients of a case against PyTorch's."""
    value, grads = result
    expected = goldens[f"value/{name}"]
    assert value.shape == expected.shape
    if np.issubdtype(expected.dtype, np.floating):
        assert value.dtype == precision
    rtol = max(TOLERANCE[precision], 1e-6 if name.startswith(NORMAL_DRAWS) else 0.0)
    assert_near(value, expected, rtol, f"{name}: the value")
    by = differentiated(goldens).get(name, ())
    parts = goldens[" ".join([f"grad/{name}", *by])] if by else np.zeros(0)
    assert len(parts) == sum(grads[key].size for key in by)
    for key in by:
        assert grads[key].dtype == precision
        part, parts = np.split(parts, [grads[key].size])
        assert_near(grads[key].ravel(), part, rtol, f"{name}: the gradient by {key}")


def assert_near(actual, expected, rtol: float, what: str):
    atol = rtol * np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol, err_msg=what)


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_pytorch_s(name, precision):
    check(name, stored(), stored_results(room(name), precision)[name], precision)


def test_one_sided_cases_have_examples_on_both_sides():
    # Otherwise they would show too little.
    for name in ("wgan_lp_penalty", "wgan_lp_penalty@target", "multi_hinge_loss", "hinge_discriminator_loss"):
        value = stored()[f"value/{name}"]
        assert (value == 0).any() and (value > 0).any(), name


def test_both_tables_have_the_same_cases():
    assert {key.removeprefix("value/") for key in stored() if key.startswith("value/")} == set(CASES)


def test_every_public_function_is_here_or_has_a_reason():
    functions = {name for name in losses.__all__ if inspect.isfunction(getattr(losses, name))}
    here = {name.partition("@")[0] for name in CASES}
    assert here | set(NOT_HERE) == functions and not here & set(NOT_HERE)


@pytest.mark.slow
def test_goldens_are_what_pytorch_computes_now():
    pytest.importorskip("torch")
    from tests.losses import goldens

    now, then = goldens.compute(goldens.SEED), stored()
    assert set(now) == set(then) - {"torch_version"}
    for key, array in now.items():
        # Not bit for bit: another processor or version may sum in another order.
        np.testing.assert_allclose(array, then[key], rtol=1e-9, atol=1e-12, err_msg=key)


@pytest.mark.slow
def test_another_seed_agrees_too():
    pytest.importorskip("torch")
    from tests.losses import goldens

    other = goldens.compute(OTHER_SEED)
    for precision in TOLERANCE:
        for module in {room(name) for name in CASES}:
            for name, result in results(other, module, precision).items():
                check(name, other, result, precision)
