"""An experiment's update compiled ahead of time, for pods that are not there: `launch.py --mode=compile`."""

from jaxgan.aot.report import examine
from jaxgan.aot.words import describe, in_words

__all__ = ["describe", "examine", "in_words"]
