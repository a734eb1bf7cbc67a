"""An experiment's update compiled ahead of time, for pods that are not there: `launch.py --mode=compile`.

With `--seeds` it is the update of a population: as many seeds of the experiment, one program.
"""

from jaxgan.aot.population import examine_population
from jaxgan.aot.report import examine
from jaxgan.aot.words import describe, in_words, population_in_words

__all__ = ["describe", "examine", "examine_population", "in_words", "population_in_words"]
