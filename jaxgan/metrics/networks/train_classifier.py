"""Trains the classifiers of `classifier.py` and measures their features.

    python -m jaxgan.metrics.networks.train_classifier digits|garments [--out FILE] [--seed 0]

What it writes is used only when it lies beside this file under the classifier's name and its sha256 stands in
`classifier.py`: weights are exchanged on purpose, with all numbers measured before.
"""

import argparse
import functools
import hashlib
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from jaxgan import data
from jaxgan.metrics.frechet import frechet_distance_from_features
from jaxgan.metrics.inception_score import inception_score
from jaxgan.metrics.kid import kid
from jaxgan.metrics.neighbours import density_coverage, expected_coverage, precision_recall
from jaxgan.metrics.networks import classifier


class Pictures(NamedTuple):
    """Pictures uint8 `[N, 28, 28, 1]` with labels int32 `[N]`."""

    real: np.ndarray
    label: np.ndarray


class Recipe(NamedTuple):
    """How a classifier is trained."""

    epochs: int
    shift: float  # the most pixels that a picture is moved
    turn: float  # the most degrees
    stretch: float  # the most that a picture grows or shrinks, and leans


RECIPES = {
    "digits": Recipe(epochs=60, shift=2.0, turn=12.0, stretch=0.15),
    "garments": Recipe(epochs=8, shift=1.0, turn=3.0, stretch=0.05),
}
BATCH = 100
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05
# Of the features' mean squared length: what does not help to tell classes apart shrinks, and with it the distance of
# two samples of one distribution: for digits from 9 %, 15 % and 9 % of that of the second blur, noise and loss of
# classes in `damages` to 7 %, 7 % and 5 %.
FEATURE_PENALTY = 0.03


def load_data(name: str) -> tuple[Pictures, Pictures]:
    """What a classifier is trained on, and what it is judged by.

    Digits: mnist5k, 4,000 and the other 1,000 of a fixed permutation. Garments: Fashion-MNIST, "train" and "test".
    """
    if name == "garments":
        return tuple(_pictures(data.load("fashion_mnist", split=split)) for split in ("train", "test"))
    digits = _pictures(data.load("mnist5k"))
    order = np.random.RandomState(0).permutation(len(digits.real))
    return tuple(Pictures(digits.real[part], digits.label[part]) for part in (order[:4000], order[4000:]))


def _pictures(dataset: data.Dataset) -> Pictures:
    return Pictures(dataset.arrays["real"], dataset.arrays["label"])


def distort(key: jax.Array, x: jax.Array, recipe: Recipe) -> jax.Array:
    """Pictures `[B, H, W, 1]`, float in [-1, 1], each moved, turned, stretched and sheared a little; black comes in."""

    def one(key, picture):
        shift, stretch, shear, turn = jnp.split(jax.random.uniform(key, (6,), minval=-1.0), [2, 4, 5])
        angle = jnp.deg2rad(recipe.turn) * turn[0]
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        lean = jnp.array([[1.0, recipe.stretch * shear[0]], [0.0, 1.0]])
        matrix = jnp.array([[cos, -sin], [sin, cos]]) @ lean @ jnp.diag(1.0 + recipe.stretch * stretch)
        centre = (jnp.array(picture.shape) - 1.0)[:, None] / 2.0
        grid = jnp.stack([axis.ravel() for axis in jnp.meshgrid(*map(jnp.arange, picture.shape), indexing="ij")])
        at = matrix @ (grid - centre) + centre + recipe.shift * shift[:, None]
        return jax.scipy.ndimage.map_coordinates(picture, list(at), order=1, cval=-1.0).reshape(picture.shape)

    return jax.vmap(one)(jax.random.split(key, len(x)), x[..., 0])[..., None]


def train(pictures: Pictures, recipe: Recipe, seed: int) -> classifier.Params:
    """Parameters after `recipe.epochs` of AdamW, with a rate that falls as a cosine."""
    steps = recipe.epochs * (len(pictures.real) // BATCH)
    rate = optax.warmup_cosine_decay_schedule(0.0, LEARNING_RATE, min(200, steps // 10 + 1), steps)
    optimizer = optax.adamw(rate, weight_decay=WEIGHT_DECAY)
    init_key, key = jax.random.split(jax.random.key(seed))
    params = classifier.init(init_key)
    state = optimizer.init(params)
    real, label = jnp.asarray(pictures.real), jnp.asarray(pictures.label)

    def loss(params, key, x, label):
        x = distort(key, x.astype(jnp.float32) / 127.5 - 1.0, recipe)
        out = classifier.forward(params, x)
        entropy = optax.softmax_cross_entropy_with_integer_labels(out["logits"], label).mean()
        return entropy + FEATURE_PENALTY * jnp.mean(jnp.sum(out["features"] ** 2, axis=1))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, number, at):
        value, gradients = jax.value_and_grad(loss)(params, jax.random.fold_in(key, number), real[at], label[at])
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    rng = np.random.RandomState(seed)
    begun, number = time.monotonic(), 0
    for epoch in range(1, recipe.epochs + 1):
        batches = rng.permutation(len(real))[: len(real) // BATCH * BATCH].reshape(-1, BATCH)
        values = []
        for at in batches:
            params, state, value = step(params, state, number, at)
            values.append(value)
            number += 1
        if epoch % max(1, recipe.epochs // 10) == 0:
            spent = time.monotonic() - begun
            left = spent / epoch * (recipe.epochs - epoch)
            logging.info("epoch %d: loss %.4f, %.0f s, %.0f s left", epoch, np.mean(values), spent, left)
    return params


def standardised(params: classifier.Params, pictures: Pictures) -> classifier.Params:
    """The same logits, of features that have a variance of 1 each over these pictures.

    Leaky ReLU commutes with positive factors, so it is a matter of the weights before and after. Distances have a scale
    then: 64 is the whole variance of the data.
    """
    std = jnp.asarray(outputs(params, pictures.real)["features"].std(0))
    dense = {kind: x / std for kind, x in params["dense"].items()}
    logits = {**params["logits"], "kernel": params["logits"]["kernel"] * std[:, None]}
    return {**params, "dense": dense, "logits": logits}


def calibrated(params: classifier.Params, pictures: Pictures) -> classifier.Params:
    """The same features, of logits multiplied by what makes the labels of these pictures most likely.

    Small features leave the classes less certain than they are right, which would lower the classifier score.
    """
    logits = jnp.asarray(outputs(params, pictures.real)["logits"])
    factors = np.geomspace(0.5, 8.0, 41)
    entropies = [
        optax.softmax_cross_entropy_with_integer_labels(factor * logits, pictures.label).mean() for factor in factors
    ]
    factor = factors[np.argmin(entropies)]
    return {**params, "logits": {kind: factor * x for kind, x in params["logits"].items()}}


def save(params: classifier.Params, file: pathlib.Path) -> str:
    """Writes the weights, rounded to float16, and returns the file's sha256."""
    arrays = {f"{layer}/{kind}": x for layer, kinds in params.items() for kind, x in kinds.items()}
    with file.open("wb") as out:  # NumPy would add to a name that does not end in .npz
        np.savez_compressed(out, **{path: np.asarray(x, np.float16) for path, x in arrays.items()})
    return hashlib.sha256(file.read_bytes()).hexdigest()


def rounded(params: classifier.Params) -> classifier.Params:
    """The parameters as they come back from a file."""
    return jax.tree.map(lambda x: x.astype(jnp.float16).astype(jnp.float32), params)


def outputs(params: classifier.Params, pictures: np.ndarray, batch: int = 500) -> dict[str, np.ndarray]:
    """`classifier.apply` of any number of pictures, in float32 on the host."""
    apply = jax.jit(classifier.apply)
    parts = [apply(params, pictures[i : i + batch]) for i in range(0, len(pictures), batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def live_dimensions(features: np.ndarray) -> tuple[int, int]:
    """Features that vary by more than 1 % of what the most varying one does; the rank of their covariance."""
    std = features.std(0, dtype=np.float64)
    return int(np.sum(std > 0.01 * std.max())), int(np.linalg.matrix_rank(np.cov(features, rowvar=False)))


def damages(
    pictures: Pictures,
    seed: int = 0,
    *,
    blurs: Sequence[float] = (0.5, 1.0, 2.0),
    noises: Sequence[float] = (20, 40, 60),
    dropped: Sequence[int] = (1, 2, 5),
) -> Iterator[tuple[str, str, np.ndarray]]:
    """The pictures damaged in three ways, each more and more: kind, strength, pictures."""
    rng = np.random.RandomState(seed)
    x = pictures.real.astype(np.float64)
    for sigma in blurs:
        yield "blur", f"sigma {sigma}", _to_bytes(_blur(x, sigma))
    for std in noises:
        yield "noise", f"std {std}", _to_bytes(x + std * rng.standard_normal(x.shape))
    for count in dropped:
        yield "dropped classes", str(count), pictures.real[pictures.label >= count]


def _blur(x: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian over rows and columns; black outside."""
    reach = int(np.ceil(4 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        padded = np.pad(x, [(reach, reach) if i == axis else (0, 0) for i in range(4)])
        size = x.shape[axis]
        x = sum(w * padded.take(range(i, i + size), axis) for i, w in enumerate(weights))
    return x


def _to_bytes(x: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def halves(pictures: Pictures, seed: int = 0) -> tuple[Pictures, Pictures]:
    """Two equally large random parts."""
    order = np.random.RandomState(seed).permutation(len(pictures.real))
    middle = len(order) // 2
    return tuple(Pictures(pictures.real[part], pictures.label[part]) for part in (order[:middle], order[middle:]))


def report(params: classifier.Params, seen: Pictures, unseen: Pictures) -> Iterator[str]:
    """Lines of what the classifier does: accuracy, live features, floors, distances of damaged pictures."""
    begun = time.monotonic()
    of_unseen = outputs(params, unseen.real)
    seconds = time.monotonic() - begun
    train, test = outputs(params, seen.real)["features"], of_unseen["features"]
    accuracy = np.mean(of_unseen["logits"].argmax(1) == unseen.label)
    yield f"accuracy on {len(test)} held-out pictures: {accuracy:.2%}  ({len(test) / seconds:.0f} pictures/s)"
    yield "live features, rank of their covariance: {} and {} of {}".format(*live_dimensions(test), test.shape[1])
    score = inception_score(of_unseen["logits"])
    yield f"classifier score of the held-out ones: {score.mean:.3f} +- {score.std:.3f}"

    yield f"Frechet distance, held-out to all {len(train)} trained on, mean of 5 draws:"
    rng = np.random.RandomState(0)
    for size in (250, 500, 1000, 2000, 5000, 10_000):
        if size <= len(test):
            draws = [test[rng.permutation(len(test))[:size]] for _ in range(5 if size < len(test) else 1)]
            yield f"  N {size}: {np.mean([frechet_distance_from_features(train, draw) for draw in draws]):.3f}"
    a, b = np.array_split(train[rng.permutation(len(train))], 2)
    yield f"Frechet distance, halves of the ones trained on, {len(a)} each: {frechet_distance_from_features(a, b):.3f}"

    size = len(test)
    yield f"held-out to equally many trained on, {size} each:"
    some = train[rng.permutation(len(train))[:size]]
    yield f"  KID {kid(some, test).mean:.2e}"
    yield "  precision {:.3f}, recall {:.3f} (k 3)".format(*precision_recall(some, test))
    best = expected_coverage(size, size)
    yield "  density {:.3f}, coverage {:.3f} (k 5; {:.3f} is expected)".format(*density_coverage(some, test), best)

    if len(test) < 5000:  # the floor of so few is high: halves of all
        both = Pictures(*(np.concatenate(parts) for parts in zip(seen, unseen, strict=True)))
        reference, sample = halves(both)
        train, test = (outputs(params, part.real)["features"] for part in (reference, sample))
    else:
        sample = unseen
    yield f"Frechet distance of {len(test)} damaged pictures to {len(train)} others:"
    yield f"  undamaged: {frechet_distance_from_features(train, test):.3f}"
    for kind, strength, pictures in damages(sample):
        distance = frechet_distance_from_features(train, outputs(params, pictures)["features"])
        yield f"  {kind} {strength}: {distance:.2f}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Trains a small classifier and measures its features.")
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--out", type=pathlib.Path, help="default: NAME.npz, here")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    seen, unseen = load_data(args.name)
    begun = time.monotonic()
    params = rounded(calibrated(standardised(train(seen, RECIPES[args.name], args.seed), seen), seen))
    file = args.out or pathlib.Path(f"{args.name}.npz")
    sha256 = save(params, file)
    print(f"{file}: {file.stat().st_size} bytes, sha256 {sha256}, trained in {time.monotonic() - begun:.0f} s")
    for line in report(params, seen, unseen):
        print(line, flush=True)


if __name__ == "__main__":
    main()
