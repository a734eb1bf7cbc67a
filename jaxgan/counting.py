"""Progress is counted in images shown to the discriminator; a duration may be written in images, epochs or steps."""

import math
import re
from typing import NamedTuple

from jaxgan.errors import ConfigError

_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([kM]?)\s*(steps?|epochs?|images?)\s*")
_FACTORS = {"": 1, "k": 1_000, "M": 1_000_000}


class Counting(NamedTuple):
    """Turns durations such as "40 epochs", "500 steps", "10k images" or "25M images" into numbers of one run."""

    images_per_step: int  # real examples that one update shows to the discriminator
    images_per_epoch: int  # examples in the data set
    steps_per_call: int = 1  # updates in one call of the compiled program

    def images(self, duration: str) -> float:
        """The duration in images.

        Raises:
            ConfigError: the text is not a number with a unit.
        """
        match = _DURATION.fullmatch(duration)
        if match is None:
            raise ConfigError(
                f"cannot read the duration {duration!r}; write a number and a unit: "
                '"40 epochs", "5k steps", "25M images"'
            )
        number, factor, unit = match.groups()
        per_unit = {"step": self.images_per_step, "epoch": self.images_per_epoch, "image": 1}
        return float(number) * _FACTORS[factor] * per_unit[unit.rstrip("s")]

    def steps(self, duration: str) -> int:
        """The duration in updates, rounded up to whole calls of the compiled program; 0 only for a duration of 0."""
        calls = self.images(duration) / (self.images_per_step * self.steps_per_call)
        return math.ceil(calls * (1 - 1e-9)) * self.steps_per_call  # a rounding error adds no call

    def updates_from(self, step: int) -> int:
        """Updates in the call that begins at `step`: one alone until the calls' own steps are reached.

        A run that comes from a machine with other calls may stand between two of this one's.
        """
        return self.steps_per_call if step % self.steps_per_call == 0 else 1

    def row(self, step: int) -> dict:
        """How far a run is after `step` updates, as the head of a row of metrics."""
        images = step * self.images_per_step
        return {"step": step, "images": images, "epoch": round(images / self.images_per_epoch, 4)}
