"""Optimizers against steps worked out in NumPy; knobs and schedules; what a mistyped name says."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan.errors import ConfigError
from jaxgan.optim import ELEMENTWISE, Optimizer, Ramp, make_optimizer, make_ramp, make_schedule
from jaxgan.update import ema_decay

PARAMS = {"w": jnp.array([1.0, -2.0, 3.0])}
GRADS = [{"w": jnp.array([0.5, -1.0, 2.0])}, {"w": jnp.array([-0.25, 4.0, 1.0])}]


def run(optimizer, state=None, grads=GRADS):
    params, state = PARAMS, optimizer.init(PARAMS) if state is None else state
    for g in grads:
        updates, state = optimizer.update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params["w"], state


def adam_by_hand(learning_rate, b1, b2, eps):
    w, m, v = np.array([1.0, -2.0, 3.0]), 0.0, 0.0
    for t, g in enumerate((np.asarray(g["w"], np.float64) for g in GRADS), start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        w = w - learning_rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return w


@pytest.mark.parametrize("b1", [0.0, 0.5, 0.9])
def test_adam_by_hand(b1):
    knobs = {"learning_rate": 0.01, "b1": b1, "b2": 0.99, "eps": 1e-8}
    np.testing.assert_allclose(run(make_optimizer("adam", **knobs))[0], adam_by_hand(**knobs), rtol=1e-6)


def test_sgd_and_rmsprop_by_hand():
    np.testing.assert_allclose(run(make_optimizer("sgd", learning_rate=0.1))[0], [0.975, -2.3, 2.7], rtol=1e-6)
    w, v = np.array([1.0, -2.0, 3.0]), 0.0
    for g in (np.asarray(g["w"]) for g in GRADS):
        v = 0.9 * v + 0.1 * g**2
        w = w - 0.1 * g / np.sqrt(v + 1e-8)
    rmsprop = make_optimizer("rmsprop", learning_rate=0.1, decay=0.9, eps=1e-8)
    np.testing.assert_allclose(run(rmsprop)[0], w, rtol=1e-5)


def test_an_optimizer_with_sizes_among_its_knobs_runs_compiled():
    """adafactor keeps rows and columns of what is large enough."""
    params = {"w": jnp.ones((4, 3))}
    for least, factored in ((2, True), (128, False)):
        optimizer = make_optimizer("adafactor", learning_rate=0.01, min_dim_size_to_factor=least)
        expected = optax.adafactor(0.01, min_dim_size_to_factor=least)
        grads = {"w": jnp.arange(12.0).reshape(4, 3)}
        state = optimizer.init(params)
        found = jax.jit(optimizer.update)(grads, state, params)[0]
        wanted = expected.update(grads, expected.init(params), params)[0]
        np.testing.assert_allclose(found["w"], wanted["w"], rtol=1e-6)
        assert factored == (4 in [x.size for x in jax.tree.leaves(state)])


def test_the_knobs_are_arrays_in_the_state():
    knobs = make_optimizer("adam", learning_rate=0.01, b1=0.5, b2=0.99, eps=1e-8).init(PARAMS).hyperparams
    assert all(isinstance(knobs[name], jax.Array) for name in ("learning_rate", "b1", "b2", "eps"))
    np.testing.assert_allclose([knobs["learning_rate"], knobs["b1"], knobs["b2"]], [0.01, 0.5, 0.99], rtol=1e-6)


@pytest.mark.parametrize("changed", [{"learning_rate": 0.03}, {"b1": 0.9}, {"b2": 0.5}, {"eps": 1.0}])
def test_a_knob_changed_in_the_state_changes_the_step(changed):
    """So that a population may differ in it under one compiled program."""
    knobs = {"learning_rate": 0.01, "b1": 0.5, "b2": 0.99, "eps": 1e-8}
    optimizer = make_optimizer("adam", **knobs)
    state = optimizer.init(PARAMS)
    state = state._replace(hyperparams={**state.hyperparams, **{k: jnp.float32(v) for k, v in changed.items()}})
    np.testing.assert_allclose(run(optimizer, state)[0], adam_by_hand(**{**knobs, **changed}), rtol=1e-5)


def test_two_members_with_other_learning_rates_share_a_program():
    optimizer = make_optimizer("sgd", learning_rate=0.1)
    state = optimizer.init(PARAMS)
    rates = jnp.array([0.1, 0.2])
    states = jax.vmap(lambda r: state._replace(hyperparams={**state.hyperparams, "learning_rate": r}))(rates)
    moved = jax.vmap(lambda s: run(optimizer, s, GRADS[:1])[0] - PARAMS["w"])(states)
    np.testing.assert_allclose(moved[1], 2 * moved[0], rtol=1e-5)


def test_the_schedules():
    seen = jnp.array([0, 250, 1000, 4_000_000_000], jnp.uint32)
    linear = make_schedule("linear_to_zero", 1000.0)
    np.testing.assert_allclose(jax.jit(linear)(seen), [1.0, 0.75, 0.0, 0.0])
    assert all(float(make_schedule("constant", 0)(images)) == 1.0 for images in seen)


def test_what_a_wrong_name_says():
    known = "constant, cosine_to_zero, linear_to_zero"
    with pytest.raises(ConfigError, match=f"unknown schedule 'cosine'; known: {known}"):
        make_schedule("cosine", 10)
    for images in (0, -1):
        with pytest.raises(ConfigError, match=r"linear_to_zero.*needs a duration above 0.*config\.optimizer\.schedule"):
            make_schedule("linear_to_zero", images)
    for name in ("adamm", "", "__name__", "apply_updates", "contrib", "Params"):
        with pytest.raises(ConfigError, match=f"unknown optimizer {name!r}.*adam, adamw"):
            make_optimizer(name, learning_rate=0.1)
    with pytest.raises(ConfigError, match=r"optax\.sgd takes no b1, b2; it takes learning_rate, momentum"):
        make_optimizer("sgd", learning_rate=0.1, b2=0.5, b1=0.5)


def test_an_optimizer_without_a_learning_rate_is_a_message_too():
    with pytest.raises(ConfigError, match="learning_rate"):
        make_optimizer("adam", b1=0.5)


@pytest.mark.parametrize("name", ["adam", "adamw", "adabelief", "rmsprop", "sgd", "lion"])
def test_every_optimizer_that_the_message_names_moves_against_the_gradient(name):
    moved = run(make_optimizer(name, learning_rate=1e-3), grads=GRADS[:1])[0] - PARAMS["w"]
    assert np.array_equal(np.sign(moved), -np.sign(GRADS[0]["w"]))


SEEN = jnp.array([0, 250, 500, 1000, 4_000_000_000], jnp.uint32)


@pytest.mark.parametrize(
    "shape, expected",
    [("linear", [2.0, 0.5, -1.0, -4.0, -4.0]), ("cosine", [2.0, 2.0 - 6.0 * (0.5 - 0.5**1.5), -1.0, -4.0, -4.0])],
)
def test_a_ramp_goes_from_its_start_to_its_end_and_stays(shape, expected):
    """A quarter of the way along half a cosine is 1/2 - 1/2 sqrt(1/2)."""
    np.testing.assert_allclose(jax.jit(Ramp(2.0, -4.0, 1000.0, shape))(SEEN), expected, rtol=1e-6)


def test_a_ramp_is_as_a_configuration_gives_it():
    asked = []

    def images_of(duration):
        asked.append(duration)
        return 1000.0

    given = {"from": 1, "to": 0.5, "over": "2 epochs"}
    assert make_ramp(given, images_of, "config.here") == Ramp(1.0, 0.5, 1000.0, "linear")
    assert make_ramp({**given, "shape": "cosine"}, images_of, "config.here") == Ramp(1.0, 0.5, 1000.0, "cosine")
    assert asked == ["2 epochs", "2 epochs"]


@pytest.mark.parametrize(
    "value, words",
    [
        ({"from": 1.0, "to": 0.0}, r"config\.here is \{.*\}; a ramp has from, to, over and perhaps shape"),
        ({"from": 1.0, "to": 0.0, "over": 5.0, "until": 3.0}, "a ramp has from, to, over and perhaps shape"),
        ({"from": 1.0, "to": 0.0, "over": 0.0}, r"config\.here is .*over must be above 0, and shape linear or cosine"),
        ({"from": 1.0, "to": 0.0, "over": -1.0}, "over must be above 0"),
        ({"from": 1.0, "to": 0.0, "over": 5.0, "shape": "sine"}, "shape linear or cosine"),
    ],
)
def test_what_a_wrong_ramp_says(value, words):
    with pytest.raises(ConfigError, match=words):
        make_ramp(value, float, "config.here")


def test_the_cosine_schedule():
    found = jax.jit(make_schedule("cosine_to_zero", 1000.0))(SEEN)
    np.testing.assert_allclose(found, [1.0, 0.5 + 0.5**1.5, 0.5, 0.0, 0.0], atol=1e-7)
    with pytest.raises(ConfigError, match=r"cosine_to_zero.*needs a duration above 0"):
        make_schedule("cosine_to_zero", 0)


def ramped_adam_by_hand(rates, b2s, factors):
    """Adam whose learning rate and beta2 are other ones at each step; the bias is corrected with the step's beta2."""
    w, m, v = np.array([1.0, -2.0, 3.0]), 0.0, 0.0
    for t, (rate, b2, factor) in enumerate(zip(rates, b2s, factors, strict=True), start=1):
        g = np.asarray(GRADS[(t - 1) % 2]["w"], np.float64)
        m, v = 0.5 * m + 0.5 * g, b2 * v + (1 - b2) * g**2
        w = w - factor * rate * (m / (1 - 0.5**t)) / (np.sqrt(v / (1 - b2**t)) + 1e-8)
    return w


@pytest.mark.parametrize("schedule", ["constant", "linear_to_zero"])
def test_ramped_knobs_are_adam_s_at_each_step(schedule):
    rate, b2 = Ramp(0.1, 0.02, 300.0), Ramp(0.9, 0.99, 200.0, "cosine")
    plain = make_optimizer("adam", learning_rate=0.1, b1=0.5, b2=0.9, eps=1e-8)
    optimizer = Optimizer(plain, make_schedule(schedule, 1000.0), {"learning_rate": rate, "b2": b2})
    images = np.array([0, 100, 200, 300, 400])
    step = jax.jit(optimizer.updates)
    params, state = PARAMS, optimizer.init(PARAMS)
    for t, seen in enumerate(images):
        updates, state = step(GRADS[t % 2], state, params, jnp.uint32(seen))
        params = optax.apply_updates(params, updates)
    rates, b2s = [0.1, 0.1 - 0.08 / 3, 0.1 - 0.16 / 3, 0.02, 0.02], [0.9, 0.945, 0.99, 0.99, 0.99]
    factors = np.ones(5) if schedule == "constant" else 1 - images / 1000
    np.testing.assert_allclose(params["w"], ramped_adam_by_hand(rates, b2s, factors), rtol=1e-5)
    constant = ramped_adam_by_hand([0.1] * 5, [0.9] * 5, factors)
    assert np.abs(constant - params["w"]).max() > 0.05  # the ramps are a part of it that can be seen
    knobs = state.hyperparams
    np.testing.assert_allclose([knobs["learning_rate"], knobs["b2"], knobs["b1"]], [0.02, 0.99, 0.5], rtol=1e-6)


def test_the_average_s_half_life_may_be_a_ramp():
    """0.5 ** (images per update / half-life), the half-life that of the images seen."""
    ramp = Ramp(0.0, 100.0, 1000.0)
    found = [ema_decay(jnp.uint32(seen), jnp.uint32(20), ramp, 0.0) for seen in (0, 250, 1000, 5000)]
    np.testing.assert_allclose(found, [0.0, 0.5 ** (20 / 25), 0.5**0.2, 0.5**0.2], rtol=1e-6)
    bounded = [ema_decay(jnp.uint32(seen), jnp.uint32(20), ramp, 0.05) for seen in (250, 5000)]
    np.testing.assert_allclose(bounded, [0.5 ** (20 / 12.5), 0.5**0.2], rtol=1e-6)


def by_halves(optimizer):
    """Params after three steps, of whole arrays and of their halves put together."""
    rng = np.random.default_rng(0)
    params, *grads = (jnp.asarray(rng.normal(size=(2, 4, 6)), jnp.float32) for _ in range(4))

    def steps(params, grads):
        state = optimizer.init(params)
        for g in grads:
            updates, state = optimizer.update(g, state, params)
            params = optax.apply_updates(params, updates)
        return params

    halves = [steps(params[i], [g[i] for g in grads]) for i in range(2)]
    return steps(params, grads), jnp.stack(halves)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_share_of_an_array_is_all_that_an_elementwise_optimizer_needs(name):
    whole, halves = jax.jit(lambda: by_halves(make_optimizer(name, learning_rate=0.1)))()
    np.testing.assert_allclose(halves, whole, rtol=1e-6)


@pytest.mark.parametrize("name", ["lamb", "novograd"])
def test_others_need_the_whole(name):
    whole, halves = jax.jit(lambda: by_halves(make_optimizer(name, learning_rate=0.1)))()
    assert name not in ELEMENTWISE and np.abs(halves - whole).max() > 1e-4
