"""The augmentation pipe of StyleGAN2-ADA (Karras et al. 2020, Training GANs with Limited Data, Appendix B).

Each operation is applied with probability p times its own multiplier, in this order: mirroring, quarter turns and
shifts by whole pixels; any scale, turn, stretch and shift; colours; bands of frequency; noise; cutout. While p is below
about 0.8 augmentations do not leak into what is generated (section 2.2): distributions that differ still differ when
both are augmented. Real and generated pictures get the same p, in the discriminator's steps and in the generator's.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgan.augment.color import color_matrix, recolor
from jaxgan.augment.filters import amplify, band_gains
from jaxgan.augment.geometry import blit, blit_inverse, product, warp, warp_inverse
from jaxgan.augment.keys import each, keys_of

BLIT = ("xflip", "rotate90", "xint")
GEOMETRY = ("scale", "rotate", "aniso", "xfrac")
COLOR = ("brightness", "contrast", "lumaflip", "hue", "saturation")
OPERATIONS = (*BLIT, *GEOMETRY, *COLOR, "imgfilter", "noise", "cutout")


def _preset(*operations: str) -> dict[str, float]:
    return dict.fromkeys(operations, 1.0)


# Multipliers by name; what is left out is not done. The letters are the paper's (figure 4), r3gan is R3GAN's choice.
PRESETS: dict[str, dict[str, float]] = {
    "blit": _preset(*BLIT),
    "geom": _preset(*GEOMETRY),
    "color": _preset(*COLOR),
    "filter": _preset("imgfilter"),
    "noise": _preset("noise"),
    "cutout": _preset("cutout"),
    "bg": _preset(*BLIT, *GEOMETRY),
    "bgc": _preset(*BLIT, *GEOMETRY, *COLOR),
    "bgcf": _preset(*BLIT, *GEOMETRY, *COLOR, "imgfilter"),
    "bgcfn": _preset(*BLIT, *GEOMETRY, *COLOR, "imgfilter", "noise"),
    "bgcfnc": _preset(*BLIT, *GEOMETRY, *COLOR, "imgfilter", "noise", "cutout"),
    "r3gan": {**_preset(*BLIT, *GEOMETRY, "cutout"), **dict.fromkeys(COLOR, 0.5)},
}

BANDS = tuple(f"imgfilter{band}" for band in range(4))  # each amplified or not by itself
CHANCES = (*BLIT, *GEOMETRY, "after", *COLOR, *BANDS, "noise", "cutout")  # "after": the second of two turns
NO_HUE = ("hue", "saturation")  # of a grey picture


class Draws(NamedTuple):
    """What is done to each example `[B, ...]`; an operation that is not applied has its neutral value."""

    mirrored: Array  # bool
    turns: Array  # int32, quarter turns to the left
    pixels: Array  # int32 [B, 2], (x, y)
    warped: Array  # bool: any of the five that follow
    scale: Array
    before: Array  # angles
    stretch: Array
    after: Array
    move: Array  # [B, 2], (x, y) in pixels
    recolored: Array  # bool: any of the five that follow
    brightness: Array
    contrast: Array
    flipped: Array  # bool
    hue: Array  # an angle
    saturation: Array
    filtered: Array  # bool
    gains: Array  # [B, 4]
    noise: Array  # standard deviation
    hidden: Array  # bool
    middle: Array  # [B, 2], (x, y) of the cutout as shares of the sides


def ada_augment(key: Array, x: Array, p: Array | float, multipliers: str | Mapping[str, float] = "bgc") -> Array:
    """Pictures `[B, H, W, C]` in [-1, 1] through the pipe at strength p (a number, may be traced).

    `multipliers` is a preset's name or numbers by operation. Computed in float32. An example for which no operation
    is drawn comes out bit for bit as it went in, and whole-pixel moves copy pixels as they are. Grey pictures (C = 1)
    have no hue and saturation, the other colours act on their luma.

    Where the paper's own program pads by the largest margin in the batch and shows zeros past one reflection, the
    reflection here goes on for ever, so an example does not depend on its batch; and turned pictures are kept in place
    with regard to the sym6 filter's centre of mass.

    Raises:
        ValueError: unknown names; colours for pictures of neither 1 nor 3 channels; quarter turns of pictures that have
            one even and one odd side, whose pixels do not come to lie on pixels.
    """
    multipliers = _read(multipliers, x.shape)
    keys = keys_of(key, len(x))
    draws = each(lambda k: draw(k, p, multipliers, x.shape[1:]), keys, len(x))
    noise = None
    if "noise" in multipliers:
        noise = each(lambda k: jax.random.normal(jax.random.fold_in(k, 1), x.shape[1:]), keys, len(x))
    return apply(draws, x.astype(jnp.float32), multipliers, noise).astype(x.dtype)


def _read(multipliers: str | Mapping[str, float], shape: tuple[int, ...]) -> dict[str, float]:
    """The operations that are to be done, with their multipliers."""
    if isinstance(multipliers, str):
        if multipliers not in PRESETS:
            raise ValueError(f"unknown preset {multipliers!r} of augmentations; known: {', '.join(PRESETS)}")
        multipliers = PRESETS[multipliers]
    unknown = sorted(set(multipliers) - set(OPERATIONS))
    if unknown:
        raise ValueError(f"unknown augmentations {', '.join(unknown)}; known: {', '.join(OPERATIONS)}")
    wanted = {name: float(value) for name, value in multipliers.items() if value}
    height, width, channels = shape[1:]
    if channels not in (1, 3) and set(wanted) & set(COLOR):
        raise ValueError(f"colours can be changed of pictures with 1 or 3 channels, not {channels}")
    if "rotate90" in wanted and (height - width) % 2:
        raise ValueError(f"rotate90: pixels of {height}x{width} pictures do not lie on pixels after a quarter turn")
    return {name: value for name, value in wanted.items() if channels != 1 or name not in NO_HUE}


def draw(key: Array, p: Array | float, multipliers: Mapping[str, float], shape: tuple[int, ...]) -> Draws:
    """What is done to one example of `shape` (H, W, C); the ranges are those of Appendix B.

    The draws of an operation do not depend on which others there are.
    """
    # All numbers from one draw, open at -1 as the normal ones want it: a program compiles slowly for each call to the
    # random generator.
    low = float(np.nextafter(np.float32(-1.0), np.float32(0.0)))
    numbers = jax.random.uniform(key, (len(CHANCES) + 22,), minval=low, maxval=1.0)
    chances, either, normal = jnp.split(numbers, [len(CHANCES), len(CHANCES) + 10])
    uniform, normal = (either + 1.0) / 2.0, math.sqrt(2.0) * jax.lax.erf_inv(normal)

    strength = {name: jnp.clip(p * multipliers.get(name, 0.0), 0.0, 1.0) for name in OPERATIONS}
    # Two turns, one before and one after the stretch, at least one of which is drawn with probability p.
    strength["rotate"] = strength["after"] = 1.0 - jnp.sqrt(1.0 - strength["rotate"])
    strength |= dict.fromkeys(BANDS, strength["imgfilter"])
    limits = jnp.stack([strength[name] for name in CHANCES])
    on = dict(zip(CHANCES, (chances + 1.0) / 2.0 < limits, strict=True))

    def if_on(name, value, neutral=0.0):
        return jnp.where(on[name], value, neutral)

    sides = jnp.asarray([shape[1], shape[0]], jnp.float32)
    bands = jnp.stack([if_on(name, normal[8 + band]) for band, name in enumerate(BANDS)])
    return Draws(
        mirrored=on["xflip"] & (uniform[0] < 0.5),
        turns=if_on("rotate90", jnp.floor(4.0 * uniform[1])).astype(jnp.int32),
        pixels=if_on("xint", jnp.round(either[2:4] / 8.0 * sides)).astype(jnp.int32),
        warped=on["scale"] | on["rotate"] | on["aniso"] | on["after"] | on["xfrac"],
        scale=jnp.exp2(if_on("scale", 0.2 * normal[0])),
        before=if_on("rotate", jnp.pi * either[4]),
        stretch=jnp.exp2(if_on("aniso", 0.2 * normal[1])),
        after=if_on("after", jnp.pi * either[5]),
        move=if_on("xfrac", 0.125 * normal[2:4] * sides),
        recolored=on["brightness"] | on["contrast"] | on["lumaflip"] | on["hue"] | on["saturation"],
        brightness=if_on("brightness", 0.2 * normal[4]),
        contrast=jnp.exp2(if_on("contrast", 0.5 * normal[5])),
        flipped=on["lumaflip"] & (uniform[6] < 0.5),
        hue=if_on("hue", jnp.pi * either[7]),
        saturation=jnp.exp2(if_on("saturation", normal[6])),
        filtered=jnp.any(bands != 0.0),
        gains=band_gains(jnp.exp2(bands)),
        noise=if_on("noise", 0.1 * jnp.abs(normal[7])),
        hidden=on["cutout"],
        middle=uniform[8:10],
    )


def apply(draws: Draws, x: Array, multipliers: Mapping[str, float], noise: Array | None = None) -> Array:
    """Does to pictures `[B, H, W, C]` (float32) what was drawn, of the operations that have a multiplier.

    `noise` is N(0, 1) of the pictures' shape.
    """
    d, asked = draws, set(multipliers)
    out = x
    if asked & set(BLIT):
        out = blit(x, d.mirrored, d.turns, d.pixels)
    if asked & set(GEOMETRY):
        # One map for both groups, so that the edges of the picture that is reflected are the given picture's.
        out = _where(d.warped, warp(x, jax.vmap(_inverse)(draws)), out)
    if asked & set(COLOR):
        matrix = color_matrix(d.brightness, d.contrast, d.flipped, d.hue, d.saturation)
        out = _where(d.recolored, recolor(out, matrix), out)
    if "imgfilter" in asked:
        out = _where(d.filtered, amplify(out, d.gains), out)
    if "noise" in asked:
        out = _where(d.noise > 0.0, out + d.noise[:, None, None, None] * noise, out)
    if "cutout" in asked:
        out = _where(d.hidden, hide(out, d.middle), out)
    return out


def _where(applied: Array, changed: Array, x: Array) -> Array:
    return jnp.where(applied[:, None, None, None], changed, x)


def _inverse(draws: Draws) -> Array:
    """Where a point of the augmented picture was in the given one, `[3, 3]`, of one example."""
    d = draws
    moved = warp_inverse(d.scale, d.before, d.stretch, d.after, d.move)
    return product(blit_inverse(d.mirrored, d.turns, d.pixels), moved)


def hide(x: Array, middle: Array) -> Array:
    """Zeros in a rectangle of half the sides whose middle lies at `middle [B, 2]`, (x, y) as shares of the sides."""

    def inside(size, at):
        pixel = (jnp.arange(size, dtype=jnp.float32) + 0.5) / size
        return jnp.abs(pixel[None] - at[:, None]) < 0.25

    hidden = inside(x.shape[1], middle[:, 1])[:, :, None] & inside(x.shape[2], middle[:, 0])[:, None, :]
    return jnp.where(hidden[..., None], 0.0, x)
