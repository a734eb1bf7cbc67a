"""What a trained generator has made of its latents: walks, mixed styles, projections, neighbours, directions.

Each tool reads a work folder's checkpoint, uses the averaged (EMA) generator, and writes one PNG into samples/. What
it shows depends on the checkpoint and the seed alone.
"""

import dataclasses
import functools
import inspect
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from flax import linen as nn
from PIL import Image, ImageDraw

from jaxgan import build, pictures
from jaxgan.album import draw_paths, rows_of_labels
from jaxgan.console import progress_of
from jaxgan.data.cache import default_data_dir
from jaxgan.data.images import to_array
from jaxgan.errors import ConfigError, DataError
from jaxgan.evaluate import Trained, load_trained
from jaxgan.evaluation import choose_features, extract_set, make_reference, plain_name
from jaxgan.games import Game, networks
from jaxgan.metrics.features import CLASSIFIERS, STACKED, load_features
from jaxgan.metrics.neighbours import nearest
from jaxgan.metrics.networks import classifier
from jaxgan.sampling import Generator, spherical_interpolation
from jaxgan.workdir import Workdir

_MOST_AT_ONCE = 64  # examples in a pass
_STYLES = 1000  # drawn to find their mean and spread
_CAPTION = 12  # pixels below a picture
_SMALLEST_SIDE = 56  # of a picture with a caption


def explore(workdir: str, what: str, **options: Any) -> pathlib.Path:
    """Runs the tool of `TOOLS` that `what` names; options that are None or "" are left to their defaults.

    Raises:
        ConfigError: there is no such tool, or it takes no such option, or there are several processes; and what the
            tool itself raises.
    """
    if jax.process_count() > 1:
        raise ConfigError("--mode=explore is for one process alone")
    if what not in TOOLS:
        raise ConfigError(f"--what={what}: there is no such tool; known: {', '.join(TOOLS)}")
    given = {name: value for name, value in options.items() if value is not None and value != ""}
    known = [name for name in inspect.signature(TOOLS[what]).parameters if name != "workdir"]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigError(f"--what={what} takes no {', '.join(unknown)}; it takes {', '.join(known)}")
    return TOOLS[what](workdir, **given)


def interpolation(
    workdir: str,
    *,
    checkpoint: str = "last",
    seed: int = 0,
    rows: int = 6,
    columns: int = 10,
    classes: Sequence[str] = (),
) -> pathlib.Path:
    """Walks along great circles between random latents, a row each.

    Of a conditional generator every row has one label, and as many rows follow in which the latent stays and the label
    walks from one class to another: what the layers make of the label is mixed, see `label_walk`. A generator in which
    that is not possible shows the latent under several classes in these rows instead.

    Args:
        workdir: of the run.
        checkpoint: see `jaxgan.evaluate.load_trained`.
        seed: of latents and labels.
        rows, columns: of each part.
        classes: two, by name or number, between which the labels walk; by default each row has its own two.

    Returns:
        The PNG: a grid, or for points in the plane paths.
    """
    _check_range(rows=(rows, 1), columns=(columns, 2))
    run = _open(workdir, checkpoint, seed)
    ends = run.latents(2 * rows)
    z = spherical_interpolation(ends[:rows], ends[rows:], columns).reshape(rows * columns, -1)
    labels = run.labels(rows)
    made = run.decode(z, None if labels is None else np.repeat(labels, columns))
    if labels is not None:
        made = np.concatenate([made, _between_classes(run, ends[:rows], columns, classes)])
    elif classes:
        raise ConfigError("classes: this run's generator was trained without labels")
    return run.save("interpolation", draw_paths(made.reshape(-1, columns, *made.shape[1:])))


def _between_classes(run: "_Run", z: jax.Array, columns: int, classes: Sequence[str]) -> np.ndarray:
    """[len(z) * columns, ...], a row for each latent."""
    count, rows = len(run.label_names), len(z)
    if classes and len(classes) != 2:
        raise ConfigError(f"classes {', '.join(classes)}: a walk has two ends")
    first = jax.random.randint(run.key_of("from"), (rows,), 0, count)
    # Never to where it came from, as long as there is another.
    last = (first + jax.random.randint(run.key_of("to"), (rows,), min(1, count - 1), max(count, 1))) % count
    if classes:
        first, last = (jnp.full(rows, run.label_number(name)) for name in classes)
    first, last, many = (jnp.repeat(x, columns, axis=0) for x in (first, last, z))
    share = jnp.tile(jnp.linspace(0.0, 1.0, columns), rows)
    walk = jax.jit(functools.partial(label_walk, run.game.decode))
    made, other = _in_parts(walk, run.networks, many, first, last, share)
    if np.max(np.abs(made - other)) < 1e-3:
        return made
    logging.info("what this generator makes of its labels cannot be mixed: the rows show several classes instead")
    return run.decode(many, np.tile(np.resize(rows_of_labels(count, columns), columns), rows))


def label_walk(decode: Callable, params, variables, z: jax.Array, first: jax.Array, last: jax.Array, share: jax.Array):
    """What a generator makes of z [B, Z] and a label that has gone a share [B] of the way from one class to another.

    Both labels are taken through the network side by side; at each embedding, and at each fully connected layer, what
    the layer gives for both is mixed, and both go on with that. Where the label is a one-hot vector that only such
    layers read, this is what they give for the mixed vector.

    Returns:
        What comes out on either side. They are equal unless the label gets in elsewhere.
    """
    size = len(z)

    def mix(next_function, args, kwargs, context):
        out = next_function(*args, **kwargs)
        if not (_is_embedding(context) or _is_dense(context, args)) or len(out) != 2 * size:
            return out
        a, b = jnp.split(out, 2)
        mixed = a + share.reshape(-1, *(1,) * (out.ndim - 1)) * (b - a)
        return jnp.concatenate([mixed, mixed])

    with nn.intercept_methods(mix):
        made = decode(params, variables, jnp.concatenate([z, z]), jnp.concatenate([first, last]))
    return jnp.split(made, 2)


def style_mixing(
    workdir: str, *, checkpoint: str = "last", seed: int = 0, sources: int = 6, coarse: int = 0
) -> pathlib.Path:
    """A table of mixed styles (Karras et al., A style-based generator architecture, 2019, figure 3).

    The same random sources stand above and at the left. A cell has its coarse layers' styles from the source at its
    left and the others from the one above it, so the diagonal shows the sources themselves.

    Args:
        workdir: of the run, whose generator has styles.
        checkpoint: see `jaxgan.evaluate.load_trained`.
        seed: of latents and labels.
        sources: how many.
        coarse: how many layers count as coarse; 0: half of them.

    Returns:
        The PNG: a grid of sources + 1 rows and columns.
    """
    _check_range(sources=(sources, 1, _STYLES), coarse=(coarse, 0))
    run = _open(workdir, checkpoint, seed)
    if not run.has_styles:
        raise ConfigError(
            f"style_mixing is for generators that make styles of their latents (with `mapping` and `synthesis`, such "
            f"as stylegan2); {run.config.model.name} has no styles. Try --what=interpolation."
        )
    layers = run.generator.style_layers
    coarse = coarse or layers // 2
    if coarse >= layers:
        raise ConfigError(f"coarse={coarse}: of this generator's {layers} layers with styles one has to be fine")
    w = run.styles[:sources]
    table = mixed_styles(w, w, layers, coarse).reshape(sources * sources, layers, -1)
    every = np.concatenate([np.repeat(w[:, None], layers, axis=1), table])
    made = pictures.to_uint8(_in_parts(jax.jit(run.space.decode), run.networks, every, None))
    head, cells = made[:sources], made[sources:].reshape(sources, sources, *made.shape[1:])
    body = np.concatenate([head[:, None], cells], axis=1)
    top = np.concatenate([np.full_like(head[:1], 128), head])  # the grey of the grid's lines in the corner
    sheet = np.concatenate([top[None], body])
    return run.save("style_mixing", pictures.grid(sheet.reshape(-1, *made.shape[1:]), sources + 1))


def mixed_styles(rows: np.ndarray, columns: np.ndarray, layers: int, coarse: int) -> np.ndarray:
    """Styles [R, C, layers, W]: `coarse` layers from rows [R, W], the rest from columns [C, W]."""
    is_coarse = (np.arange(layers) < coarse)[None, None, :, None]
    return np.where(is_coarse, rows[:, None, None], columns[None, :, None])


def projection(
    workdir: str,
    picture: str = "",
    *,
    checkpoint: str = "last",
    seed: int = 0,
    steps: int = 300,
    starts: int = 8,
    rate: float = 0.1,
    weight: float = 0.1,
    label: str = "",
) -> pathlib.Path:
    """Looks for a picture's latent: Adam on the mean squared distance of the pixels and, weighted, of the features.

    The features are those of the network made for the data set, where there is one; Inception is not used. A generator
    with styles is searched for a style, from the mean style and from random ones; any other for a latent, from random
    ones, of which a conditional generator's have the classes in turn.

    Args:
        workdir: of the run.
        picture: a file. Its centre is cut out and resized to the data's size.
        checkpoint: see `jaxgan.evaluate.load_trained`.
        seed: of the starts.
        steps: of Adam, whose rate falls to 0 as a cosine.
        starts: how many; the best one is kept.
        rate: of Adam, in standard deviations of the latents.
        weight: of the features' distance. A feature has a variance of about 1, and so 1 is a large distance.
        label: the picture's class, by name or number, for a conditional generator without styles.

    Returns:
        The PNG: a row for each start, the best first; the picture, then what the generator makes of the latent at the
        beginning and after more and more steps. Beside it lies an .npz with the best latent ("z", or "w" for a style),
        its "loss" and "label", the "losses" of all starts at the beginning and at the end [2, starts], and the pictures
        "target" and "reconstruction".
    """
    if not picture:
        raise ConfigError("projection needs a picture to look for: --picture=FILE")
    _check_range(steps=(steps, 1), starts=(starts, 1, _STYLES))
    run = _open(workdir, checkpoint, seed)
    run.need_pictures("projection")
    target = read_picture(picture, run.shape)
    x, labels, scale = _starts(run, starts, label)
    shown = sorted({0, *(steps * i // 16 for i in (1, 2, 4, 8, 16))})
    schedule = optax.cosine_decay_schedule(rate * scale, steps)
    path, first, last = _descend(run, x, labels, target, optax.adam(schedule), steps, shown, weight)
    order = np.argsort(last, kind="stable")
    many = None if labels is None else np.repeat(labels[order], len(shown))
    made = _in_parts(jax.jit(run.space.decode), run.networks, path[order].reshape(-1, path.shape[-1]), many)
    made = pictures.to_uint8(made).reshape(len(x), len(shown), *run.shape)
    sheet = np.concatenate([np.broadcast_to(target, (len(x), 1, *run.shape)), made], axis=1)
    best = order[0]
    found = {run.space.name: path[best, -1], "loss": last[best], "losses": np.stack([first, last])}
    found |= {"target": target, "reconstruction": made[0, -1]} | ({} if labels is None else {"label": labels[best]})
    logging.info("projection: the loss fell from %.4f (best start) to %.4f", first.min(), last[best])
    stem = f"projection_of_{plain_name(pathlib.Path(picture).stem)}"
    return run.save(stem, pictures.grid(sheet.reshape(-1, *run.shape), len(shown) + 1), found)


def read_picture(file: str, shape: Sequence[int]) -> np.ndarray:
    """A picture file as the data sets have theirs, uint8 of this shape: the centre cut out, then resized.

    Raises:
        DataError: it is missing, or no picture that can be read.
    """
    height, width, channels = shape
    try:
        with Image.open(file) as opened:
            if height == width:
                return to_array(opened, height, channels)
            whole = to_array(opened, None, channels)
    except FileNotFoundError:
        raise DataError(f"there is no picture {file}; --picture names a file that Pillow can read (.png, .jpg, ...)")
    except Exception as error:  # for a damaged file Pillow's plugins raise anything
        raise DataError(f"{file} is no picture that can be read: {error}. A .png, .jpg or the like is needed.")
    scale = min(whole.shape[0] / height, whole.shape[1] / width)
    cut = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (whole.shape[0] - cut[0]) // 2, (whole.shape[1] - cut[1]) // 2
    inside = whole[top : top + cut[0], left : left + cut[1]]
    image = Image.fromarray(inside[..., 0] if channels == 1 else inside)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS), np.uint8).reshape(shape)


def _starts(run: "_Run", starts: int, label: str) -> tuple[np.ndarray, np.ndarray | None, float]:
    """Where the search begins [starts, Z or W], with labels, and the standard deviation of such latents."""
    if run.has_styles:
        if label:
            raise ConfigError("label: a style says the class too, so that the search needs none")
        mean, spread = run.style_statistics()
        return np.concatenate([mean[None], run.styles[1:starts]]), None, spread
    if run.game.conditions is None:
        if label:
            raise ConfigError("label: this run's generator was trained without labels")
        return run.latents(starts), None, 1.0
    if label:
        return run.latents(starts), np.full(starts, run.label_number(label)), 1.0
    labels = np.resize(jax.random.permutation(run.key_of("classes"), len(run.label_names)), starts)
    return run.latents(starts), labels, 1.0


def _descend(run, x, labels, target, optimizer, steps, shown, weight):
    """(latents [starts, shown, Z] at the steps to be shown, losses [starts] at the first and at the last)."""
    see = _differentiable_features(run)
    target = jnp.asarray(target, jnp.float32)[None] / 127.5 - 1.0
    wanted = jax.jit(see)(target)

    @jax.jit
    def step(networks, x, memory):
        def losses(x):
            made = run.space.decode(*networks, x, labels)
            apart = jnp.mean(jnp.square(made - target), axis=(1, 2, 3))
            values = apart + weight * jnp.mean(jnp.square(see(made) - wanted), axis=1)
            return jnp.sum(values), values  # of the sum every start's gradient is that of its own loss

        gradient, values = jax.grad(losses, has_aux=True)(x)
        change, memory = optimizer.update(gradient, memory)
        return x + change, memory, values

    x, path, first, tell = jnp.asarray(x), [], None, progress_of("steps of the projection")
    memory = optimizer.init(x)
    # One step at a call: in a CPU's compiled loop a convolution's backward pass is many times slower.
    for number in range(steps + 1):
        if number in shown:
            path.append(np.asarray(x))
        x, memory, values = step(run.networks, x, memory)
        first = values if first is None else first
        tell(number + 1, steps + 1)
    return np.stack(path, axis=1), np.asarray(first), np.asarray(values)


def _differentiable_features(run: "_Run") -> Callable[[jax.Array], jax.Array]:
    """From pictures in [-1, 1] to the features of the network made for the data, or to none, [B, 1] zeros."""
    name = choose_features(run.config.eval.features, run.config.data.name, run.shape)
    if name not in (*CLASSIFIERS, STACKED):
        return lambda x: jnp.zeros((len(x), 1))
    params, _, _ = classifier.load("digits" if name == STACKED else name)

    def see(x):
        single = jnp.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:3], 1)  # a channel each, where there are several
        return classifier.forward(params, single)["features"].reshape(len(x), -1)

    return see


def neighbours(
    workdir: str, *, checkpoint: str = "last", seed: int = 0, num_samples: int = 500, rows: int = 10, k: int = 5
) -> pathlib.Path:
    """Samples beside the training pictures nearest to them, in the features that an evaluation of the run uses.

    Logs the share of samples nearer to a training picture than that picture's own nearest other training picture, see
    `nearness`, and for comparison that of real pictures, held against the rest of the training set.

    Args:
        workdir: of the run. Its data set is needed.
        checkpoint: see `jaxgan.evaluate.load_trained`.
        seed: of the samples.
        num_samples: how many are looked at.
        rows: how many are shown: those nearest to a training picture, which are the ones to suspect.
        k: how many training pictures are shown beside each.

    Returns:
        The PNG: in each row a sample, then its neighbours with their distances. Beside it lies an .npz with the
        numbers: "indices" of the training pictures and "distances" to them, both [N, k], of all samples in their
        order; and "samples" and "held_out", each a share and a median distance, as `Nearness` has them.
    """
    _check_range(num_samples=(num_samples, 1), rows=(rows, 1), k=(k, 1))
    run = _open(workdir, checkpoint, seed)
    run.need_pictures("neighbours")
    c = run.config
    real = build.load_data(c).arrays["real"]
    if max(k, 3) > len(real):
        raise DataError(f"the training set has {len(real)} pictures: k={k} and 3 at least are needed")
    name = choose_features(c.eval.features, c.data.name, run.shape)
    network = load_features(name, weights=c.eval.weights or None, resize=c.eval.resize or None)
    kept = default_data_dir() / "jaxgan_statistics"
    features = make_reference(network, real, c.data.split, kept).examples.features
    samples = pictures.to_uint8(Generator(run.game).samples(run.trained.state, run.key, num_samples))
    seen = extract_set(network, samples).features
    indices, distances = nearest(seen, features, k)
    fake, held_out = nearness(seen, features), _held_out(features, num_samples)
    logging.info(
        "%.1f %% of %d samples are nearer to a training picture than its nearest other one; of real pictures held "
        "out %.1f %%. Median distance to the nearest: %.4g; of real pictures %.4g",
        *(100 * fake.share, num_samples, 100 * held_out.share, fake.distance, held_out.distance),
    )
    found = {"indices": indices, "distances": distances, "samples": fake, "held_out": held_out}
    order = np.argsort(distances[:, 0], kind="stable")[:rows]
    shown = np.concatenate([samples[order, None], real[indices[order]]], axis=1)
    captions = [text for row in distances[order] for text in ("sample", *(f"{distance:.3g}" for distance in row))]
    sheet = _with_captions(shown.reshape(-1, *run.shape), captions)
    return run.save("neighbours", pictures.grid(sheet, k + 1), found)


class Nearness(NamedTuple):
    """How near examples are to real ones."""

    share: float  # of examples nearer to a real one than that one's own nearest other real one
    distance: float  # of an example to the nearest real one, the median


def nearness(x: np.ndarray, real: np.ndarray) -> Nearness:
    """Both numbers for features x [N, D] and real [M, D], M >= 2.

    The share is 1 of copies. Of fresh draws from the data's own distribution it is the share of points that are the
    nearest of their nearest: 2/3 on a line, 0.62 in the plane, and less in many dimensions, where few points are near
    to many. Examples far from all data are nearest to its outliers, which have no near ones themselves, and can have a
    large share too. So both numbers say something together, and beside those of real examples that were held out.
    """
    indices, distances = nearest(x, real)
    _, of_real = nearest(real[indices[:, 0]], real, 2)  # the nearest is the row itself, or its equal
    return Nearness(float(np.mean(distances[:, 0] < of_real[:, 1])), float(np.median(distances[:, 0])))


def _held_out(real: np.ndarray, most: int) -> Nearness:
    """Of a part of the real examples, a half at most, to the rest."""
    order = np.random.default_rng(0).permutation(len(real))
    count = min(most, len(real) // 2)
    return nearness(real[order[:count]], real[np.sort(order[count:])])


def _with_captions(shown: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """uint8 pictures [N, H, W, C], enlarged to be seen, with a line of text below each."""
    factor = max(1, -(-_SMALLEST_SIDE // min(shown.shape[1:3])))
    shown = shown.repeat(factor, axis=1).repeat(factor, axis=2)
    lines = np.zeros((len(shown), _CAPTION, *shown.shape[2:]), np.uint8)
    for line, caption in zip(lines, captions, strict=True):
        image = Image.new("L", (line.shape[1], _CAPTION))
        ImageDraw.Draw(image).text((1, 0), caption, fill=255)
        line[:] = np.asarray(image)[..., None]
    return np.concatenate([shown, lines], axis=1)


def directions(
    workdir: str,
    *,
    checkpoint: str = "last",
    seed: int = 0,
    count: int = 6,
    columns: int = 9,
    reach: float = 3.0,
) -> pathlib.Path:
    """The directions in which the generator's first weights stretch its latents most, a row each, around one sample.

    SeFa: Shen and Zhou, Closed-form factorization of latent semantics in GANs, 2021, equation 5. Without styles the
    latents are z and the weights those of the first fully connected layer; with styles they are w and the weights of
    all layers that styles modulate. See `stretched`.

    Args:
        workdir: of the run.
        checkpoint: see `jaxgan.evaluate.load_trained`.
        seed: of the sample in the middle.
        count: of directions, those most stretched; latents of fewer numbers have fewer.
        columns: of steps from one end to the other; an odd number has the sample itself in the middle.
        reach: how far each end is, in standard deviations of the latents.

    Returns:
        The PNG: a grid, or for points in the plane paths.
    """
    _check_range(count=(count, 1), columns=(columns, 2))
    run = _open(workdir, checkpoint, seed)
    if run.has_styles:
        middle, labels, (_, scale) = run.styles[:1], None, run.style_statistics()
    else:
        middle, labels, scale = run.latents(1), run.labels(1), 1.0
    axes, _ = stretched(latent_weights(run.space, run.networks, middle.shape[1], labels))
    count = min(count, len(axes))
    steps = np.linspace(-reach, reach, columns, dtype=np.float32) * scale
    x = middle[None] + steps[None, :, None] * axes[:count, None]
    labels = None if labels is None else np.resize(labels, count * columns)
    made = _in_parts(jax.jit(run.space.decode), run.networks, x.reshape(count * columns, -1), labels)
    return run.save("directions", draw_paths(made.reshape(count, columns, *made.shape[1:])))


def latent_weights(space: "_Space", of: tuple[Any, Any], size: int, label: np.ndarray | None) -> np.ndarray:
    """The weights [F, Z] that act on the latent first: by how much those (affine) layers move with each of its entries.

    So nothing has to be known of how a network names its layers, puts labels beside latents, or scales its kernels.
    Latents that the first layer does not see (BigGAN's later chunks) have columns of zeros.

    Args:
        space: of the latents; of styles all layers count, otherwise the first.
        of: the networks (params, variables).
        size: of a latent, Z.
        label: any one [1], or None.

    Raises:
        ConfigError: no fully connected layer reads the latents.
    """

    def outputs(params, variables, x, labels):
        seen = []

        def note(next_function, args, kwargs, context):
            out = next_function(*args, **kwargs)
            if _is_dense(context, args):
                seen.append((out[1:] - out[0]).T)
            return out

        with nn.intercept_methods(note):
            space.decode(params, variables, x, labels)
        return seen  # the compiler drops all that does not lead here, such as the convolutions

    x = np.eye(size + 1, dtype=np.float32)[:, 1:]  # nothing, then each entry alone
    with jax.default_matmul_precision("highest"):
        found = jax.jit(outputs)(*of, x, None if label is None else np.repeat(label, len(x)))
    found = [np.asarray(a) for a in found if np.any(a)]
    if not found:
        raise ConfigError("directions: no fully connected layer of this generator reads its latents")
    return np.concatenate(found if space.name == "w" else found[:1])


def stretched(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions [Z, Z], a row each, and by how much A = weights [F, Z] stretches them, squared, largest first.

    They are the eigenvectors of A^T A: among unit vectors n at right angles to those before, each makes |A n| largest.
    The sign, which is free, makes the largest entry positive.
    """
    a = np.asarray(weights, np.float64)
    values, vectors = np.linalg.eigh(a.T @ a)
    axes = vectors.T[::-1]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1, keepdims=True), axis=1)
    return (axes * np.sign(largest)).astype(np.float32), values[::-1]


TOOLS: dict[str, Callable[..., pathlib.Path]] = {
    "interpolation": interpolation,
    "style_mixing": style_mixing,
    "projection": projection,
    "neighbours": neighbours,
    "directions": directions,
}


class _Space(NamedTuple):
    """Where a generator is steered: by its latents z, or by the styles w made of them, which know the label."""

    name: str  # "z" or "w"
    decode: Callable  # (params, variables, z or w, label) -> examples


@dataclasses.dataclass(frozen=True, eq=False)
class _Run:
    """A run that a tool looks into."""

    trained: Trained
    folder: Workdir
    shape: tuple[int, ...]
    label_names: tuple[str, ...]
    seed: int

    @property
    def config(self):
        return self.trained.config

    @property
    def game(self) -> Game:
        return self.trained.game

    @property
    def key(self) -> jax.Array:
        return jax.random.key(self.seed)

    @property
    def networks(self) -> tuple[Any, Any]:
        """(params, variables) of the averaged generator."""
        return self.trained.state.ema_g, {"generator": self.trained.state.ema_variables}

    @functools.cached_property
    def generator(self) -> nn.Module:
        """The module, for its parts; the game calls it as a whole."""
        return build.make_networks(self.config, tuple(self.shape), len(self.label_names))[0]

    @property
    def has_styles(self) -> bool:
        return hasattr(self.generator, "mapping") and hasattr(self.generator, "synthesis")

    @functools.cached_property
    def space(self) -> _Space:
        if not self.has_styles:
            return _Space("z", self.game.decode)

        def synthesis(params, variables, w, label=None):
            return networks.evaluate(self.generator, params, variables["generator"], (w,), "synthesis")

        return _Space("w", synthesis)

    def key_of(self, what: str) -> jax.Array:
        """A key of its own for each draw."""
        return jax.random.fold_in(self.key, int.from_bytes(what.encode()[:4]))

    def latents(self, n: int) -> np.ndarray:
        """[n, Z]; latent i depends on the seed and i alone, and is that of `--mode=sample`."""
        return np.asarray(self.game.latents(self.key, jnp.arange(n)))

    def labels(self, n: int) -> np.ndarray | None:
        """[n], as the data has them; None where the generator is given none."""
        if self.game.conditions is None:
            return None
        return np.asarray(self.game.conditions(self.key_of("label"), jnp.arange(n)))

    @functools.cached_property
    def styles(self) -> np.ndarray:
        """[_STYLES, W] of the first latents and labels."""

        def mapping(params, variables, z, label):
            return networks.evaluate(self.generator, params, variables["generator"], (z, label), "mapping")

        return np.asarray(jax.jit(mapping)(*self.networks, self.latents(_STYLES), self.labels(_STYLES)))

    def style_statistics(self) -> tuple[np.ndarray, float]:
        """Mean [W] and standard deviation, the root mean square of all coordinates', of styles."""
        return self.styles.mean(axis=0), float(np.sqrt(self.styles.var(axis=0).mean()))

    def decode(self, z: jax.Array, labels: np.ndarray | None) -> np.ndarray:
        return _in_parts(jax.jit(self.game.decode), self.networks, z, labels)

    def label_number(self, name: str) -> int:
        """Of a class that a person named."""
        if name in self.label_names:
            return self.label_names.index(name)
        if name.isdecimal() and int(name) < len(self.label_names):
            return int(name)
        raise ConfigError(f"there is no class {name!r}; known: {', '.join(self.label_names)}")

    def need_pictures(self, tool: str) -> None:
        if len(self.shape) != 3:
            raise DataError(
                f"{tool} is for pictures; the examples of this run ({self.config.data.name}) have the shape "
                f"{self.shape}. Points can be explored with --what=interpolation and --what=directions."
            )

    def save(self, stem: str, image: Image.Image, arrays: dict[str, Any] | None = None) -> pathlib.Path:
        file = self.folder.samples / f"{stem}_step_{int(self.trained.state.step):09}_seed_{self.seed}.png"
        pictures.save_png(image, file)
        if arrays is not None:
            np.savez(file.with_suffix(".npz"), **arrays)
        return file


def _open(workdir: str, checkpoint: str, seed: int) -> _Run:
    trained = load_trained(workdir, checkpoint)
    folder = Workdir(workdir)
    facts = folder.read_record()["data"]
    run = _Run(trained, folder, tuple(facts["shape"]), tuple(facts["label_names"]), seed)
    latents = jax.tree.leaves(jax.eval_shape(run.game.latents, run.key, jnp.arange(1)))
    if len(latents) != 1 or latents[0].ndim != 2:
        shapes = ", ".join(str(x.shape[1:]) for x in latents)
        raise ConfigError(f"a latent of this run's game is not one vector; its parts have the shapes {shapes}")
    return run


def _in_parts(function: Callable, of: tuple[Any, Any], *arrays: Any) -> Any:
    """function(params, variables, *arrays) over the arrays' rows; some at a time, always as many: one compilation."""
    n = len(arrays[0])
    size = -(-n // -(-n // _MOST_AT_ONCE))

    def part(x, begin):
        cut = np.asarray(x[begin : begin + size])
        return np.pad(cut, ((0, size - len(cut)), *((0, 0),) * (cut.ndim - 1)), mode="edge")

    outs = []
    for begin in range(0, n, size):
        out = function(*of, *(None if x is None else part(x, begin) for x in arrays))
        outs.append(jax.tree.map(np.asarray, out))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:n], *outs)


def _is_embedding(context: nn.module.InterceptorContext) -> bool:
    return context.method_name == "__call__" and isinstance(context.module, nn.Embed)


def _is_dense(context: nn.module.InterceptorContext, args: tuple[Any, ...]) -> bool:
    """Whether a layer with a kernel [inputs, outputs] was called with vectors [B, inputs]."""
    if context.method_name != "__call__" or not context.module.has_variable("params", "kernel"):
        return False
    kernel = context.module.get_variable("params", "kernel")
    return kernel.ndim == 2 and args[0].ndim == 2


def _check_range(**given: tuple[int, ...]) -> None:
    """Each is (value, least) or (value, least, most)."""
    for name, (value, least, *most) in given.items():
        if value < least or (most and value > most[0]):
            bounds = f"from {least} to {most[0]}" if most else f"{least} or more"
            raise ConfigError(f"{name}={value} must be {bounds}")
