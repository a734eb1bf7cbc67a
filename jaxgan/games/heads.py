"""What a discriminator says beside real or fake, and what both sides make of it: classes, codes, contrastive vectors.

By name, as a configuration gives them: `{"ac_gan": 1.0, "info_gan": {"weight": 1.0, "generator_weight": 1.0}}`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgan import losses
from jaxgan.errors import ConfigError
from jaxgan.traced import is_off, number, passes

Outputs = Mapping[str, jax.Array]


class Codes(NamedTuple):
    """The part of a latent that InfoGAN's discriminator reads back: it stands at the latent's end.

    One-hot categorical codes come first, then continuous ones, uniform in [-1, 1].
    """

    categorical: tuple[int, ...] = ()
    continuous: int = 0

    @property
    def size(self) -> int:
        """Numbers in the latent, and in the discriminator's answer."""
        return sum(self.categorical) + self.continuous

    def draw(self, key: jax.Array) -> jax.Array:
        """Codes [size] of one example."""
        keys = jax.random.split(key, len(self.categorical) + 1)
        classes = [
            jax.nn.one_hot(jax.random.randint(k, (), 0, n), n) for k, n in zip(keys, self.categorical, strict=False)
        ]
        return jnp.concatenate([*classes, jax.random.uniform(keys[-1], (self.continuous,), minval=-1.0)])

    def loss(self, answer: jax.Array, codes: jax.Array) -> jax.Array:
        """-log q(codes | x) [B] of both [B, size]; continuous codes are Gaussian with a standard deviation of 1."""
        total, start = jnp.zeros(len(codes)), 0
        for n in self.categorical:
            part = slice(start, start + n)
            total = total + losses.info_gan_categorical_loss(answer[:, part], jnp.argmax(codes[:, part], axis=-1))
            start += n
        if self.continuous:
            mean = answer[:, start:]
            total = total + losses.info_gan_gaussian_loss(mean, jnp.zeros_like(mean), codes[:, start:])
        return total


class Said(NamedTuple):
    """The heads' outputs over the global batch, and what they should say."""

    real: Outputs | None  # in the discriminator's step alone
    fake: Outputs
    labels: jax.Array | None  # [B]
    codes: jax.Array | None  # [B, size]


class Term(NamedTuple):
    """A kind of head: `(said, codes, **options) -> [B]` for each side."""

    head: str  # see jaxgan.models.conditioning.Judge
    discriminator: Callable[..., jax.Array]
    generator: Callable[..., jax.Array]
    options: Mapping[str, Any]


def _ac_gan(said, codes, fake_share):
    loss = losses.ac_gan_loss(said.real["class"], said.labels)
    return loss + fake_share * losses.ac_gan_loss(said.fake["class"], said.labels) if fake_share else loss


def _contrastive(loss, kind):
    def term(said, codes, **options):
        outputs = getattr(said, kind)
        return loss(outputs["embedding"], outputs["proxy"], said.labels, **options)

    return term


def _info_gan(said, codes):
    return codes.loss(said.fake["code"], said.codes)


TERMS: dict[str, Term] = {
    # The paper's D learns the classes of real and generated examples; fake_share 0: of real ones alone.
    "ac_gan": Term(
        "class",
        _ac_gan,
        lambda said, codes, fake_share: losses.ac_gan_loss(said.fake["class"], said.labels),
        {"fake_share": 1.0},
    ),
    "contragan": Term(
        "embedding",
        _contrastive(losses.conditional_contrastive_loss, "real"),
        _contrastive(losses.conditional_contrastive_loss, "fake"),
        {"temperature": 1.0},
    ),
    "reacgan": Term(
        "embedding",
        _contrastive(losses.data_to_data_cross_entropy_loss, "real"),
        _contrastive(losses.data_to_data_cross_entropy_loss, "fake"),
        {"temperature": 0.5, "margin": 0.98},
    ),
    "info_gan": Term("code", _info_gan, _info_gan, {}),
}


class Head(NamedTuple):
    """A term as it was configured."""

    name: str
    weight: float
    generator_weight: float
    options: dict[str, Any]


def read_heads(
    auxiliary: Mapping[str, float | Mapping[str, Any]], *, has_labels: bool, codes: Codes
) -> tuple[Head, ...]:
    """Heads from numbers (weights) or mappings ("weight", "generator_weight" and the term's options); 0 means none.

    Raises:
        ConfigError: unknown names or options, or a head that has nothing to read.
    """
    found = []
    for name, value in auxiliary.items():
        where = f"config.loss.auxiliary.{name}"
        if name not in TERMS:
            raise ConfigError(f"unknown head {name!r} in config.loss.auxiliary; known: {', '.join(TERMS)}")
        settings = dict(value) if isinstance(value, Mapping) else {"weight": value}
        weight = settings.pop("weight", 1.0)
        generator_weight = settings.pop("generator_weight", weight)
        unknown = sorted(set(settings) - set(TERMS[name].options))
        if unknown:
            takes = ", ".join(["weight", "generator_weight", *TERMS[name].options])
            raise ConfigError(f"{where} has no {', '.join(unknown)}; it takes {takes}")
        if not all(passes(w, lambda w: w >= 0) for w in (weight, generator_weight)):
            raise ConfigError(f"{where}: weights must be 0 or more, not {weight} and {generator_weight}")
        if is_off(weight) and is_off(generator_weight):
            continue
        if name == "info_gan" and not codes.size:
            raise ConfigError(f"{where} reads codes back, but config.game.codes has none")
        if name != "info_gan" and not has_labels:
            raise ConfigError(f"{where} is of labels; set config.game.conditional=True on a data set that has them")
        found.append(Head(name, number(weight), number(generator_weight), {**TERMS[name].options, **settings}))
    return tuple(found)


def evaluate(heads: tuple[Head, ...], side: str, said: Said, codes: Codes) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The weighted sum of a side's terms, and each one's mean by name."""
    total, metrics = jnp.float32(0.0), {}
    for head in heads:
        is_generator = side == "generator"
        value = jnp.mean(getattr(TERMS[head.name], side)(said, codes, **head.options))
        total = total + (head.generator_weight if is_generator else head.weight) * value
        metrics[f"{head.name}_{'g' if is_generator else 'd'}"] = value
    return total, metrics
