"""How far a generator's samples are from the data, by name and with the whole protocol beside every number.

A result is logged as `<metric><samples>_<reference split>_<features>`, such as `fid5k_train_digits`: numbers compare
only where all of that is equal, and the record that goes with it (`Evaluator.protocol`) says the rest.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgan import distributed
from jaxgan.data import Dataset
from jaxgan.data.toy import MIXTURES
from jaxgan.errors import ConfigError
from jaxgan.metrics.features import Features, load_features
from jaxgan.metrics.frechet import (
    frechet_distance,
    frechet_distance_from_features,
    frechet_distance_infinity,
    mean_and_covariance,
)
from jaxgan.metrics.inception_score import inception_score
from jaxgan.metrics.kid import kid
from jaxgan.metrics.modes import label_histogram, labelled_modes, mode_coverage
from jaxgan.metrics.neighbours import density_coverage, precision_recall
from jaxgan.metrics.prd import prd
from jaxgan.metrics.sliced_wasserstein import sliced_wasserstein_distance
from jaxgan.reference import PAIRS, Extracted, Reference, extract_set, make_reference, read_statistics, some

_sliced = jax.jit(sliced_wasserstein_distance)
DIRECTIONS_KEY = 0  # of the sliced distance: one set of directions, so that its values compare
# The network made for a data set, and the channels that it wants.
OF_A_SET = {
    "mnist5k": ("digits", 1),
    "mnist": ("digits", 1),
    "fashion_mnist": ("garments", 1),
    "stacked_mnist5k": ("stacked_digits", 3),
    "stacked_mnist": ("stacked_digits", 3),
}
MADE_FOR_A_SET = {features for features, _ in OF_A_SET.values()}
NEVER_FID = {"efflite0"}  # another network of ImageNet's: under FID's name its distance would be taken for Inception's
MOST_LABELS = 100  # in a histogram that a person reads


class Metric(NamedTuple):
    """A kind of measurement; one may give several numbers. One that takes long is measured only if it is asked for."""

    measure: Callable[..., dict[str, float]]  # (reference, fake, mixture) -> values
    lower_is_better: dict[str, bool]  # of its numbers, by name
    # Of "logits", "examples" (of the reference), "mixture", "classes" (of the data); "fid" or "fd": a distance's name.
    needs: tuple[str, ...] = ()
    unasked: bool = True


def _frechet(reference, fake):
    # With no more examples than features a covariance is singular, and there is an exact form; else the reference's
    # statistics are computed once.
    if reference.examples is not None and min(reference.size, len(fake.features)) <= fake.features.shape[1]:
        return frechet_distance_from_features(reference.examples.features, fake.features)
    return frechet_distance(*reference.statistics, *mean_and_covariance(fake.features))


def _frechet_infinity(reference, fake):
    smallest = max(2, len(fake.features) // 10)
    return frechet_distance_infinity(reference.examples.features, fake.features, smallest=smallest).value


def _fid(reference, fake, mixture):
    return {"fid": _frechet(reference, fake)}


def _fid_infinity(reference, fake, mixture):
    return {"fid_infinity": _frechet_infinity(reference, fake)}


def _fd(reference, fake, mixture):
    return {"fd": _frechet(reference, fake)}


def _fd_infinity(reference, fake, mixture):
    return {"fd_infinity": _frechet_infinity(reference, fake)}


def _prd(reference, fake, mixture):
    n = min(PAIRS, len(reference.examples.features), len(fake.features))
    curve = prd(some(reference.examples.features, n), some(fake.features, n))
    return {"f8": curve.f8, "f_one_eighth": curve.f_one_eighth}


def _is(reference, fake, mixture):
    score = inception_score(fake.logits, splits=min(10, max(1, len(fake.logits) // 100)))
    return {"is": score.mean}


def _swd(reference, fake, mixture):
    n = min(PAIRS, len(reference.examples.features), len(fake.features))
    real, fake = some(reference.examples.features, n), some(fake.features, n)
    return {"swd": float(_sliced(real, fake, jax.random.key(DIRECTIONS_KEY)))}


def _modes(reference, fake, mixture):
    found = mode_coverage(fake.features, mixture.centres(), mixture.std)
    # Of the good points, as PacGAN's table has it; where there are none, as bad as it gets.
    kl = found.reverse_kl_good if found.modes else math.log(len(mixture.centres()))
    return {"modes": float(found.modes), "reverse_kl": kl, "high_quality": found.high_quality}


def _labelled_modes(reference, fake, mixture):
    found = labelled_modes(np.argmax(fake.logits, axis=1), fake.logits.shape[1])
    return {"modes": float(found.modes), "reverse_kl": found.reverse_kl}


def _precision_recall(reference, fake, mixture):
    return precision_recall(reference.for_pairs, some(fake.features), 3, reference.third_neighbours)._asdict()


def _density_coverage(reference, fake, mixture):
    return density_coverage(reference.for_pairs, some(fake.features), 5, reference.fifth_neighbours)._asdict()


def _kid(reference, fake, mixture):
    return {"kid": kid(reference.for_pairs, some(fake.features)).mean}


METRICS: dict[str, Metric] = {
    "fid": Metric(_fid, {"fid": True}, ("fid",)),
    "fid_infinity": Metric(_fid_infinity, {"fid_infinity": True}, ("fid", "examples"), unasked=False),
    "fd": Metric(_fd, {"fd": True}, ("fd",)),
    "fd_infinity": Metric(_fd_infinity, {"fd_infinity": True}, ("fd", "examples"), unasked=False),
    "kid": Metric(_kid, {"kid": True}, ("examples",)),
    "is": Metric(_is, {"is": False}, ("logits",)),
    "precision_recall": Metric(_precision_recall, {"precision": False, "recall": False}, ("examples",)),
    "density_coverage": Metric(_density_coverage, {"density": False, "coverage": False}, ("examples",)),
    "prd": Metric(_prd, {"f8": False, "f_one_eighth": False}, ("examples",), unasked=False),
    "swd": Metric(_swd, {"swd": True}, ("examples",)),
    "modes": Metric(_modes, {"modes": False, "reverse_kl": True, "high_quality": False}, ("mixture",)),
    "labelled_modes": Metric(_labelled_modes, {"modes": False, "reverse_kl": True}, ("classes",)),
}


class Evaluator:
    """Measures samples against one reference with one feature network.

    Args:
        features: see `jaxgan.metrics.features.load_features`.
        reference: the real side.
        metrics: names of `METRICS`; none: all that the features and the reference allow, but for the slow ones.
        mixture: of points in the plane, for "modes".

    Raises:
        ConfigError: an unknown metric, or one that these features or this reference cannot give.
    """

    def __init__(self, features: Features, reference: Reference, metrics: Sequence[str] = (), mixture: Any = None):
        self._features, self._reference, self._mixture = features, reference, mixture
        unknown = sorted(set(metrics) - set(METRICS))
        if unknown:
            raise ConfigError(f"unknown metric {', '.join(unknown)}; known: {', '.join(METRICS)}")
        lacking = {name: self._lacks(name) for name in metrics}
        for name, what in lacking.items():
            if what:
                raise ConfigError(f"the metric {name!r} needs {what}, which {features.name} on this data does not give")
        self.metrics = tuple(metrics) or tuple(
            name for name, metric in METRICS.items() if metric.unasked and not self._lacks(name)
        )

    def measure(self, samples: np.ndarray) -> dict[str, float]:
        """All metrics by the name they are logged under, of pictures uint8 [N, H, W, C] or points float32 [N, D]."""
        return self.named(self.measure_features(self.extract(samples)), len(samples))

    def measure_features(self, fake: Extracted) -> dict[str, float]:
        """All metrics by their short names, of samples whose features are at hand."""
        values = {}
        for name in self.metrics:
            values |= METRICS[name].measure(self._reference, fake, self._mixture)
        return {short: float(value) for short, value in values.items()}

    def named(self, values: dict[str, float], samples: int) -> dict[str, float]:
        """Numbers by the name that they are logged under."""
        return {self.name(short, samples): value for short, value in values.items()}

    def extract(self, samples: np.ndarray) -> Extracted:
        """What the network sees in samples; every process looks at its share of them, and all get all."""
        return distributed.in_shares(lambda own: extract_set(self._features, own), samples)

    def floor(self, seed: int = 0) -> dict[str, float]:
        """One random half of the reference against the other, by short names: what equal distributions give.

        Empty where the reference is a file of statistics.
        """
        examples = self._reference.examples
        if examples is None:
            return {}
        halves = np.array_split(np.random.default_rng(seed).permutation(len(examples.features)), 2)
        real, fake = (
            Extracted(examples.features[half], None if examples.logits is None else examples.logits[half])
            for half in halves
        )
        reference = dataclasses.replace(self._reference, examples=real, size=len(real.features))
        return Evaluator(self._features, reference, self.metrics, self._mixture).measure_features(fake)

    def histogram(self, fake: Extracted) -> dict[str, int]:
        """How many samples the network takes for each of its classes; empty where it knows none, or very many."""
        names = self._features.class_names
        if not 0 < len(names) <= MOST_LABELS:
            return {}
        counts = label_histogram(np.argmax(fake.logits, axis=1), len(names))
        return {name: int(count) for name, count in zip(names, counts, strict=True)}

    @property
    def reference_size(self) -> int:
        """Real examples; 0 where the reference is a file of statistics that does not say."""
        return self._reference.size

    @property
    def numbers(self) -> tuple[str, ...]:
        """The short names of what is measured: one metric may give several."""
        return tuple(number for metric in self.metrics for number in METRICS[metric].lower_is_better)

    def name(self, short: str, samples: int) -> str:
        """`fid`, 5000 -> `fid5k_train_digits`."""
        return f"{short}{count_text(samples)}_{self._reference.name}_{self._features.name}"

    def protocol(self, samples: int) -> dict[str, Any]:
        """What a number depends on beside the samples."""
        f, r = self._features, self._reference
        return {
            "samples": samples,
            "pairs_at_most": PAIRS,
            "reference": {"name": r.name, "size": r.size, "sha256": r.digest},
            "features": {"name": f.name, "size": f.size, "sha256": f.weights_sha256},
            "resize": f.resize,
            "dtype": f.dtype,
        }

    def _lacks(self, metric: str) -> str:
        needs = METRICS[metric].needs
        own = _distance_of(self._features.name)
        if ({"fid", "fd"} - {own}) & set(needs):
            return f"features whose Frechet distance has that name (of these it is {own!r})"
        if "mixture" in needs and self._mixture is None:
            return "points of a mixture whose modes are known"
        if "classes" in needs and self._features.name not in MADE_FOR_A_SET:
            return "a network that knows the data's classes"
        if "logits" in needs and not self._features.class_names:
            return "a network with classes"
        if "examples" in needs and self._reference.examples is None:
            return "the real examples' features, and not their statistics alone,"
        return ""


def lower_is_better(short: str) -> bool:
    """Whether a number by this name (`fid`, `recall`, ...) is better where it is lower.

    Raises:
        ConfigError: no metric gives such a number.
    """
    known = {name: lower for metric in METRICS.values() for name, lower in metric.lower_is_better.items()}
    if short not in known:
        raise ConfigError(f"unknown metric {short!r}; known: {', '.join(known)}")
    return known[short]


def choose_features(name: str, data_name: str, shape: Sequence[int], resize: str = "") -> str:
    """The features to measure a data set with: those named, or for "auto" a network made for it, or the raw numbers.

    Pictures of another size than that network's are given to it if a resize is named.
    """
    if name != "auto":
        return name
    own, channels = OF_A_SET.get(data_name, ("raw", 0))
    sized = tuple(shape[:2]) == (28, 28) or resize not in ("", "none")
    fits = len(shape) == 3 and shape[2] == channels and sized
    return own if fits else "raw"


def default_metrics(features: str, data_name: str) -> tuple[str, ...]:
    """What is measured while training unless something else is asked for; the first keeps the best checkpoint."""
    if data_name in MIXTURES:
        return ("swd", "modes")
    if features == "stacked_digits":
        return ("labelled_modes", "fid")
    if features == "raw":
        return ("swd",)
    return (_distance_of(features), "precision_recall")


def _distance_of(features: str) -> str:
    return "fd" if features in NEVER_FID else "fid"


def count_text(n: int) -> str:
    """5000 -> "5k", 2500 -> "2500"."""
    return f"{n // 1000}k" if n % 1000 == 0 and n else str(n)


def make_evaluator(
    dataset: Dataset,
    *,
    features: str = "auto",
    metrics: Sequence[str] = (),
    weights: str = "",
    resize: str = "",
    split: str = "train",
    limit: int = 0,
    keep_in: Path | None = None,
    statistics: str = "",
) -> Evaluator:
    """An evaluator against a data set.

    Args:
        dataset: the real examples.
        features: a name of `load_features`, or "auto" for the network made for this data set, else the raw numbers.
        metrics: names of `METRICS`; none: all that there is.
        weights: the file of the network's weights, where it has none of its own.
        resize: how pictures are resized for the network; its own way if empty.
        split: what the reference is called.
        limit: take at most so many real examples, drawn once; 0: all.
        keep_in: see `make_reference`.
        statistics: a file that takes the place of the real examples, see `read_statistics`.

    Raises:
        ConfigError, DataError: see `load_features`, `read_statistics` and `Evaluator`.
    """
    real = dataset.arrays["real"]
    network = load_features(
        choose_features(features, dataset.name, real.shape[1:], resize), weights=weights or None, resize=resize or None
    )
    mixture = MIXTURES.get(dataset.name)
    if statistics:
        size = network.size or math.prod(real.shape[1:])
        return Evaluator(network, read_statistics(statistics, size), metrics, mixture)
    if dataset.is_streamed and network.name == "raw" and not limit:
        limit = PAIRS  # as wide as the pictures themselves, which are too many
    if limit and limit < len(real):
        real = real[np.sort(np.random.default_rng(0).choice(len(real), limit, replace=False))]
    return Evaluator(network, make_reference(network, real, split, keep_in), metrics, mixture)
