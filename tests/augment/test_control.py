"""The controller of p against the same by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.augment import control


def run(logits, state=None, **options):
    step = jax.jit(lambda state, logits: control.update(state, logits, **options))
    states = [control.init() if state is None else state]
    for batch in logits:
        states.append(step(states[-1], jnp.asarray(batch)))
    return states[1:]


@pytest.mark.parametrize("shape", [(16,), (16, 1), (16, 3, 3)], ids=str)
def test_p_moves_every_fourth_update_as_by_hand(shape):
    logits = np.random.default_rng(0).normal(size=(40, *shape)) + np.linspace(3, 0, 40).reshape(-1, *[1] * len(shape))
    p, expected = 0.0, []
    for step in range(40):
        if step % 4 == 3:
            r = np.sign(logits[step - 3 : step + 1]).mean()
            p = max(0.0, p + np.sign(r - 0.6) * 4 * 16 / 1000)
        expected.append(p)
    assert 0 < expected[-1] < max(expected)
    np.testing.assert_allclose([s.p for s in run(logits.astype(np.float32), speed=1000)], expected, atol=1e-6)


def test_from_0_to_1_takes_as_many_images_as_said_and_no_more():
    states = run(np.ones((30, 100)), speed=2000, every=4)
    assert [float(s.p) for s in states[18:22]] == pytest.approx([0.8, 1.0, 1.0, 1.0])
    assert float(states[-1].p) == 1.0 and float(states[-1].overfitting) == 1.0


def test_p_stays_in_its_limits_and_falls_where_the_discriminator_is_unsure():
    assert float(run(-np.ones((8, 100)), speed=100)[-1].p) == 0.0
    assert float(run(np.ones((8, 100)), speed=100, limit=0.8)[-1].p) == pytest.approx(0.8)
    falling = run(np.tile([1.0, -1.0], (4, 50)), control.init(0.5), speed=4000)[-1]
    assert (float(falling.p), float(falling.overfitting)) == (pytest.approx(0.4), 0.0)


def test_a_step_with_nan_moves_nothing_and_is_forgotten():
    logits = np.ones((8, 10), np.float32)
    logits[1, 2] = np.nan
    states = run(logits, control.init(0.5), speed=400)
    assert [float(s.p) for s in states] == pytest.approx([0.5] * 7 + [0.6])


def test_all_devices_come_to_the_p_of_the_whole_batch():
    logits = np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32) + 2.0
    (*_, whole) = run(logits, speed=100, every=2)
    state = jax.tree.map(lambda a: jnp.stack([a, a]), control.init())
    step = jax.vmap(lambda s, x: control.update(s, x, speed=100, every=2, axis_name="batch"), axis_name="batch")
    for batch in logits:
        state = step(state, jnp.asarray(batch).reshape(2, 4))
    for a, b in zip(state, whole, strict=True):
        np.testing.assert_allclose(a, [b, b], atol=1e-6)


def test_a_state_keeps_its_types_so_that_a_scan_may_carry_it(strict):
    state, _ = jax.lax.scan(lambda s, x: (control.update(s, x), None), control.init(), jnp.ones((5, 3), jnp.bfloat16))
    assert [a.dtype for a in state] == [a.dtype for a in control.init()]
    assert int(state.updates) == 1
