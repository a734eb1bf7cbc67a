"""The sliced Wasserstein distance: the mean over directions of the distance between one-dimensional projections."""

import jax
import jax.numpy as jnp


def sliced_wasserstein_distance(
    real: jax.Array, fake: jax.Array, key: jax.Array, *, directions: int = 256
) -> jax.Array:
    """Mean over random unit directions of the Wasserstein-1 distance between projections of two equally large sets.

    In one dimension the distance is the mean absolute difference of the sorted values. It shrinks with the dimension
    (a shift by v gives about |v| sqrt(2 / (pi D))), so distances compare only between equal features.

    Args:
        real: features [N, D].
        fake: features [N, D].
        key: draws the directions; use the same key for numbers that are to be compared.
        directions: how many.

    Returns:
        float32 [], 0 for equal sets.

    Raises:
        ValueError: the shapes differ or are not [N, D].

    References:
        Rabin et al., Wasserstein Barycenter and its Application to Texture Mixing, 2011;
        Bonneel et al., Sliced and Radon Wasserstein Barycenters of Measures, 2015.
    """
    if real.shape != fake.shape or real.ndim != 2:
        raise ValueError(f"real {real.shape} and fake {fake.shape} must be feature sets [N, D] of the same shape")
    unit = jax.random.normal(key, (real.shape[1], directions))
    unit /= jnp.linalg.norm(unit, axis=0)

    def project(x):  # at full precision: an accelerator's default would blur the order of close values
        return jnp.sort(jnp.matmul(x, unit, precision="highest"), axis=0)

    return jnp.mean(jnp.abs(project(real) - project(fake)))
