"""Augmentation on the device: `(key, x, ...) -> x`, differentiable, each example by itself.

`key` is one key, or one for each example `[B]`, whose draws then do not depend on the batch around it.

- `basic`: `flip`, `shift`, `noise`, for data sets and consistency penalties.
- `diffaugment`: `diff_augment`, the three operations of DiffAugment.
- `ada`: `ada_augment`, the pipe of StyleGAN2-ADA, with `PRESETS`; `geometry`, `color`, `filters` hold what it does.
- `control`: the feedback that adapts the pipe's strength p to how far the discriminator overfits.
"""

from jaxgan.augment import control
from jaxgan.augment.ada import PRESETS, ada_augment
from jaxgan.augment.basic import flip, noise, shift
from jaxgan.augment.diffaugment import diff_augment

__all__ = ["PRESETS", "ada_augment", "control", "diff_augment", "flip", "noise", "shift"]
