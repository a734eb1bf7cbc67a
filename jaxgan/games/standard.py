"""One generator against one discriminator: G(z, y) makes examples from noise (and labels), D(x, y) gives each a logit.

Goodfellow et al., Generative Adversarial Networks, 2014, and Mirza and Osindero, Conditional Generative Adversarial
Nets, 2014, with any adversarial loss, penalties, heads and augmentation.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgan.errors import ConfigError
from jaxgan.games import Aux, Game, heads, networks
from jaxgan.games.augmentation import Augmentation
from jaxgan.games.heads import Codes, Head, Said, read_heads
from jaxgan.games.penalties import Penalty, View, evaluate, initial_state, read_penalties
from jaxgan.losses import AdversarialLoss, pack, top_k_mask

SIDES = ("generator", "discriminator")
PRECISIONS = ("float32", "bfloat16")
BATCH_STATS = ("synchronised", "per_device")
_CODES, _CONDITION = 1, 2  # folded into the key of an example


def make_game(
    generator: nn.Module,
    discriminator: nn.Module,
    loss: AdversarialLoss,
    latent_size: int,
    *,
    penalties: Mapping[str, Any] | None = None,
    top_k: float = 1.0,
    packing: int = 1,
    spectral_norm: Sequence[str] = (),
    label_shares: Sequence[float] = (),
    auxiliary: Mapping[str, Any] | None = None,
    codes: Codes = Codes(),  # noqa: B008
    augmentation: Augmentation = Augmentation(),  # noqa: B008
    precision: str = "float32",
    batch_stats: str = "synchronised",
    joint_pass: bool = False,
) -> Game:
    """The game of two linen modules.

    Args:
        generator: called as `generator(z [B, Z][, label [B]], train=, index=)`, gives examples [B, ...].
        discriminator: called as `discriminator(x [B, ...][, label [B]], train=, index=)`, gives logits, [B] or patches
            [B, h, w, 1]; with `auxiliary`, (logits, outputs of its heads).
        loss: both sides of the adversarial loss.
        latent_size: length of z, drawn from N(0, I), to which the codes are appended.
        penalties: by name, see `jaxgan.games.penalties.read_penalties`.
        top_k: the share of the generated examples, those with the largest logits, that the generator learns from.
        packing: how many examples the discriminator judges together (PacGAN).
        spectral_norm: which networks are normalised, of `SIDES`. The vectors move by one power iteration in each step
            of the discriminator, before its passes, and in each pass of the generator.
        label_shares: how frequent each class is; with it both networks are given labels, in training those of the
            batch, else drawn with these shares.
        auxiliary: heads by name, see `jaxgan.games.heads.read_heads`.
        codes: a part of the latent that a head of the discriminator reads back (InfoGAN).
        augmentation: of all that the discriminator is shown.
        precision: what both networks compute in while training, of `PRECISIONS`; their parameters are float32.
        batch_stats: what the networks take for the batch (batch norm, the spread in a minibatch): "synchronised", the
            global one, or "per_device", each device its own part. Losses are of the global batch in either case.
        joint_pass: real and generated examples go through the discriminator together in its step, as one batch of twice
            the size: the same numbers (dropout and noise draw others), in fewer and larger products. For a
            discriminator that does not mix examples. Penalties at real or generated examples (r1, r2), which otherwise
            share the loss's pass, then have one of their own.

    Raises:
        ConfigError: unknown names, or values out of range or that do not go together.
    """
    _check(top_k, packing, spectral_norm, precision, batch_stats)
    if packing > 1 and label_shares:
        raise ConfigError("a discriminator that judges packs takes no labels: packing must be 1 in a conditional game")
    if packing > 1 and augmentation.method:
        raise ConfigError("augmentation is of single pictures: packing must be 1 with config.augment")
    shares = tuple(float(share) for share in label_shares)
    terms = read_penalties(penalties or {})
    said = read_heads(auxiliary or {}, has_labels=bool(shares), codes=codes)
    fields = (latent_size, terms, top_k, packing, tuple(spectral_norm), shares, said, codes, augmentation)
    fields += (precision, batch_stats == "synchronised", joint_pass)
    game = _Standard(generator, discriminator, loss, *fields)
    return Game(
        game.init,
        game.generate,
        game.discriminator_loss,
        game.generator_loss,
        game.latents,
        game.decode,
        game.sample,
        game.conditions if shares else None,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Standard:
    """What the game's functions close over."""

    generator: nn.Module
    discriminator: nn.Module
    loss: AdversarialLoss
    latent_size: int
    penalties: tuple[Penalty, ...]
    top_k: float
    packing: int
    spectral_norm: tuple[str, ...]
    label_shares: tuple[float, ...]
    heads: tuple[Head, ...]
    codes: Codes
    augmentation: Augmentation
    precision: str
    synchronised: bool
    joint_pass: bool

    def init(self, key, batch):
        key_g, key_d = jax.random.split(key)
        z, label = self.latents(key, batch["index"]), self._labels(batch)
        shown = pack(jnp.repeat(batch["real"], self.packing, axis=0), self.packing)
        normalised = [side in self.spectral_norm for side in SIDES]
        params_g, collections_g = networks.initialise(self.generator, key_g, (z, label), normalised[0])
        params_d, collections_d = networks.initialise(self.discriminator, key_d, (shown, label), normalised[1])
        if self.joint_pass and networks.mixes_examples(self.discriminator, collections_d):
            raise ConfigError(
                "config.joint_pass: this discriminator compares the examples of a batch, and would compare real ones "
                "with generated ones"
            )
        variables = {"generator": collections_g, "discriminator": collections_d}
        adaptive = {**initial_state(self.penalties), **self.augmentation.initial()}
        return params_g, params_d, {**variables, "adaptive": adaptive}

    def generate(self, params_g, variables, batch, key, axis_name=None):
        fake, _, variables = self._generate(params_g, variables, batch, key, axis_name)
        return fake, variables

    def discriminator_loss(self, params_d, params_g, variables, batch, key, axis_name=None, fake=None):
        key_fake, key_real_pass, key_fake_pass = jax.random.split(key, 3)
        fake, z, variables = self._fake(params_g, variables, batch, key_fake, axis_name, fake)
        collections = networks.iterate(params_d, variables["discriminator"])
        before = variables = {**variables, "discriminator": collections}
        real, fake = pack(batch["real"], self.packing), pack(jax.lax.stop_gradient(fake), self.packing)
        judge = self._judge_together if self.joint_pass else self._judge_apart
        (real_logits, real_said), (fake_logits, fake_said), variables = judge(
            params_d, variables, real, fake, batch, (key_real_pass, key_fake_pass), axis_name
        )
        # Of the global batch, because some losses compare an example with the mean of all others.
        r, f = _gather((real_logits, fake_logits), axis_name)
        value = jnp.mean(self.loss.discriminator(r, f))
        metrics = {
            "loss_d": value,
            "logits_real": jnp.mean(r),
            "logits_fake": jnp.mean(f),
            # Share of pairs in the right order: needs no threshold, so it means the same for every loss.
            "accuracy_d": jnp.mean(r > f, dtype=jnp.float32),
            "std_real": batch_std(batch["real"], axis_name),
            **self.augmentation.metrics(_adaptive(variables), _images(batch)),
        }

        def critic(key_pass):
            # The same pass as the loss's own where x is the same: the compiler makes one of both.
            return lambda x: self._judge(params_d, before, x, batch, key_pass, axis_name)[0]

        seen = {"real": real, "fake": fake, "real_logits": real_logits, "fake_logits": fake_logits}
        critics = {"critic": critic(key_real_pass), "fake_critic": critic(key_fake_pass)}
        fixed_g = jax.lax.stop_gradient(params_g)
        shown = self._view(fixed_g, params_d, variables, batch, key, axis_name, **critics, **seen)
        value, aux = self._add_penalties("discriminator", value, shown, metrics, variables)
        if self.augmentation.is_adaptive:
            adaptive = self.augmentation.adapt(aux.variables["adaptive"], jax.lax.stop_gradient(r))
            aux = aux._replace(variables={**aux.variables, "adaptive": adaptive})
        return self._add_heads("discriminator", value, real_said, fake_said, z, batch, axis_name, aux)

    def generator_loss(self, params_g, params_d, variables, batch, key, axis_name=None, fake=None):
        key_fake, key_real_pass, key_fake_pass = jax.random.split(key, 3)
        fake, z, variables = self._fake(params_g, variables, batch, key_fake, axis_name, fake)
        # Only relativistic losses look at the real logits; for the others the compiler drops that pass. What the
        # discriminator's collections become here is dropped too: its own step has moved them already.
        real, shown = pack(batch["real"], self.packing), pack(fake, self.packing)
        real_logits, _, _ = self._judge(params_d, variables, real, batch, key_real_pass, axis_name)
        fake_logits, fake_said, _ = self._judge(params_d, variables, shown, batch, key_fake_pass, axis_name)
        r, f = _gather((real_logits, fake_logits), axis_name)
        value = self._mean_of_best(self.loss.generator(r, f), f)
        metrics = {"loss_g": value, "std_fake": batch_std(jax.lax.stop_gradient(fake), axis_name)}
        seen = self._view(params_g, params_g, variables, batch, key, axis_name)
        value, aux = self._add_penalties("generator", value, seen, metrics, variables)
        return self._add_heads("generator", value, None, fake_said, z, batch, axis_name, aux)

    def latents(self, key, index, truncation=None):
        # A network of styles is truncated where they are, see `decode`.
        within = None if self._has_styles else truncation
        return jax.vmap(lambda i: self._latent(jax.random.fold_in(key, i), within))(index)

    def conditions(self, key, index):
        shares = jnp.log(jnp.asarray(self.label_shares))
        # Folded once more: the latent of this number is drawn from the first key.
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), _CONDITION))(index)
        return jax.vmap(lambda k: jax.random.categorical(k, shares))(keys)

    def decode(self, params_g, variables, z, condition=None, truncation=None):
        if condition is None and self.label_shares:
            raise ValueError("this game is conditional: it needs a label for each latent")
        if condition is not None and not self.label_shares:
            raise ValueError("this game is unconditional: it takes no condition")
        collections = variables["generator"]
        if truncation is None or not self._has_styles:
            return networks.evaluate(self.generator, params_g, collections, (z, condition))
        styles = networks.evaluate(self.generator, params_g, collections, (z, condition), "mapping")
        mean = jax.tree.leaves(collections["w_mean"])[0]
        return networks.evaluate(
            self.generator, params_g, collections, (mean + truncation * (styles - mean),), "synthesis"
        )

    def sample(self, params_g, variables, key, n, condition=None):
        index = jnp.arange(n)
        if condition is None and self.label_shares:
            condition = self.conditions(key, index)
        return self.decode(params_g, variables, self.latents(key, index), condition)

    @property
    def _has_styles(self):
        return hasattr(self.generator, "mapping")

    def _latent(self, key, truncation=None):
        if truncation is None:
            z = jax.random.normal(key, (self.latent_size,))
        else:
            z = jax.random.truncated_normal(key, -truncation, truncation, (self.latent_size,))
        if not self.codes.size:
            return z
        return jnp.concatenate([z, self.codes.draw(jax.random.fold_in(key, _CODES))])

    def _labels(self, batch):
        return batch["label"] if self.label_shares else None

    def _generate(self, params_g, variables, batch, key, axis_name):
        key_z, key_noise = jax.random.split(key)
        z = self.latents(key_z, batch["index"])
        collections = networks.iterate(params_g, variables["generator"])
        fake, collections = self._apply(
            self.generator, params_g, collections, (z, self._labels(batch)), batch["index"], key_noise, axis_name
        )
        return fake, z, {**variables, "generator": collections}

    def _apply(self, module, params, collections, inputs, index, key, axis_name):
        over = axis_name if self.synchronised else None
        return networks.apply(module, params, collections, inputs, index, key, over, self.precision)

    def _fake(self, params_g, variables, batch, key, axis_name, fake):
        """A pass of the generator, unless one is given."""
        if fake is None:
            return self._generate(params_g, variables, batch, key, axis_name)
        if self.codes.size:
            raise ConfigError("the codes of a shared pass are not known to the losses: set config.share_fake=False")
        return fake, None, variables

    def _judge(self, params_d, variables, x, batch, key, axis_name):
        """What the discriminator says of x: logits, the heads' outputs, and the variables after its pass."""
        index, label = batch["index"][:: self.packing], self._labels(batch)
        x = self._shown(variables, x, batch, key)
        collections = variables["discriminator"]
        out, collections = self._apply(self.discriminator, params_d, collections, (x, label), index, key, axis_name)
        logits, said = out if self.heads else (out, {})
        return logits, said, {**variables, "discriminator": collections}

    def _judge_apart(self, params_d, variables, real, fake, batch, keys, axis_name):
        """(logits, heads' outputs) of real and of generated examples, each in a pass, and the variables after both."""
        *of_real, variables = self._judge(params_d, variables, real, batch, keys[0], axis_name)
        *of_fake, variables = self._judge(params_d, variables, fake, batch, keys[1], axis_name)
        return of_real, of_fake, variables

    def _judge_together(self, params_d, variables, real, fake, batch, keys, axis_name):
        """`_judge_apart` in one pass."""
        index, label = batch["index"][:: self.packing], self._labels(batch)
        both = [self._shown(variables, x, batch, key) for x, key in zip((real, fake), keys, strict=True)]
        inputs = (jnp.concatenate(both), None if label is None else jnp.concatenate([label, label]))
        places = jnp.concatenate([2 * index, 2 * index + 1])  # in a global batch of both, whatever the devices
        out, collections = self._apply(
            self.discriminator, params_d, variables["discriminator"], inputs, places, keys[0], axis_name
        )
        out, half = out if self.heads else (out, {}), len(real)
        of_real, of_fake = jax.tree.map(lambda x: x[:half], out), jax.tree.map(lambda x: x[half:], out)
        return of_real, of_fake, {**variables, "discriminator": collections}

    def _shown(self, variables, x, batch, key):
        """Examples, or packs of them, augmented."""
        index, key_augment = batch["index"][:: self.packing], jax.random.fold_in(key, 1)
        return self.augmentation.view(_adaptive(variables), _images(batch), key_augment, index)(x)

    def _view(self, params_g, params, variables, batch, key, axis_name, **more):
        """What penalties see; their draws are their own."""
        key_noise, key_penalties = jax.random.split(jax.random.fold_in(key, 1))

        def generator(z):
            inputs, collections = (z, self._labels(batch)), variables["generator"]
            return self._apply(
                self.generator, params_g, collections, inputs, batch["index"], key_noise, axis_name
            )[0]

        index, images = batch["index"], _images(batch)
        return View(
            params, generator, jax.vmap(self._latent), key_penalties, index, axis_name, self.packing, images, **more
        )

    def _add_penalties(self, side, value, seen, metrics, variables):
        if not self.penalties:
            return value, Aux(metrics, variables)
        total, more, adaptive = evaluate(self.penalties, side, seen, variables["adaptive"])
        return value + total, Aux({**metrics, **more}, {**variables, "adaptive": adaptive})

    def _add_heads(self, side, value, real_said, fake_said, z, batch, axis_name, aux):
        if not self.heads:
            return value, aux
        codes = z[:, self.latent_size :] if self.codes.size else None
        said = Said(*_gather((real_said, fake_said, self._labels(batch), codes), axis_name))
        total, metrics = heads.evaluate(self.heads, side, said, self.codes)
        return value + total, aux._replace(metrics={**aux.metrics, **metrics})

    def _mean_of_best(self, values, fake_logits):
        if self.top_k == 1.0:
            return jnp.mean(values)
        k = max(1, int(self.top_k * values.size))
        return jnp.sum(top_k_mask(fake_logits, k) * values) / k


def batch_std(x: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Root mean square over features of the standard deviation over the (global) batch, to about 1e-4."""
    mean, square = jnp.mean(x, axis=0), jnp.mean(jnp.square(x), axis=0)
    if axis_name is not None:
        mean, square = jax.lax.pmean((mean, square), axis_name)
    return jnp.sqrt(jnp.maximum(0.0, jnp.mean(square - jnp.square(mean))))


def _adaptive(variables):
    """What the game remembers; variables made by hand may leave it out where that is nothing."""
    return variables.get("adaptive", {})


def _images(batch):
    """Images seen before this batch; a batch made by hand may leave them out."""
    return batch.get("images", jnp.uint32(0))


def _gather(tree, axis_name):
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.all_gather(x, axis_name, tiled=True), tree)


def _check(top_k: float, packing: int, spectral_norm: Sequence[str], precision: str, batch_stats: str) -> None:
    if batch_stats not in BATCH_STATS:
        raise ConfigError(f"unknown config.batch_stats {batch_stats!r}; known: {', '.join(BATCH_STATS)}")
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown config.precision {precision!r}; known: {', '.join(PRECISIONS)}")
    if not 0.0 < top_k <= 1.0:
        raise ConfigError(f"top_k {top_k} is a share of the batch: above 0, at most 1")
    if packing < 1:
        raise ConfigError(f"packing {packing} must be 1 or more")
    unknown = sorted(set(spectral_norm) - set(SIDES))
    if unknown:
        raise ConfigError(f"spectral_norm names {', '.join(unknown)}; known: {', '.join(SIDES)}")
