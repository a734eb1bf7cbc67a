"""The real side of an evaluation: what a network sees in the data, kept where that was expensive to find out."""

import dataclasses
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from jaxgan.console import progress_of
from jaxgan.data.stored import Stored
from jaxgan.errors import DataError
from jaxgan.files import written_whole
from jaxgan.metrics.features import Features, extract
from jaxgan.metrics.frechet import mean_and_covariance
from jaxgan.metrics.neighbours import neighbourhoods

PAIRS = 10_000  # of each kind at most, for what compares all pairs, as their papers do, or sorts


class Extracted(NamedTuple):
    """What a network sees in a set of examples."""

    features: np.ndarray  # [N, D]
    logits: np.ndarray | None  # [N, K]


@dataclasses.dataclass(frozen=True)
class Reference:
    """The real side: features where they are at hand, or a mean and covariance from a file."""

    examples: Extracted | None
    name: str  # of the split or the file, as it stands in a result's name
    size: int  # examples; 0 where a file does not say
    digest: str  # sha256 of what it was made from
    given: tuple[np.ndarray, np.ndarray] | None = None  # statistics from a file

    @functools.cached_property
    def for_pairs(self) -> np.ndarray:
        """The features of all examples, or of so many that all pairs of them can be looked at."""
        return some(self.examples.features)

    @functools.cached_property
    def third_neighbours(self) -> np.ndarray:
        """How far those of `for_pairs` have their third neighbour, for precision and recall."""
        return neighbourhoods(self.for_pairs, 3)

    @functools.cached_property
    def fifth_neighbours(self) -> np.ndarray:
        """How far they have their fifth one, for density and coverage."""
        return neighbourhoods(self.for_pairs, 5)

    @functools.cached_property
    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean [D] and covariance [D, D], float64."""
        return self.given or mean_and_covariance(self.examples.features)


def some(features: np.ndarray, most: int = PAIRS) -> np.ndarray:
    """So many of the features at most, drawn once and left in their order."""
    if len(features) <= most:
        return features
    return features[np.sort(np.random.default_rng(0).choice(len(features), most, replace=False))]


def extract_set(features: Features, examples: np.ndarray | Stored) -> Extracted:
    """The features of pictures uint8 [N, H, W, C], or of points, which are their own."""
    if examples.ndim == 2:
        return Extracted(np.asarray(examples, np.float32), None)
    out = extract(features, examples, progress=progress_of(f"pictures seen by {features.name}"))
    return Extracted(out["features"], out.get("logits"))


def make_reference(
    features: Features, examples: np.ndarray | Stored, split: str, keep_in: Path | None = None
) -> Reference:
    """The reference of real examples; its features are kept on disk under a hash of all that they depend on.

    Args:
        features: the network.
        examples: pictures uint8 [N, H, W, C], or points; stored pictures are taken a few at a time.
        split: their name.
        keep_in: a folder for features that are expensive; None: compute them each time.
    """
    what = json.dumps([features.name, features.weights_sha256, features.resize, features.dtype, examples.shape])

    def name(content: bytes) -> str:
        return hashlib.sha256(what.encode() + content).hexdigest()

    # What is stored is known by its files: to read it all only to find that it was seen before would take too long.
    is_stored = isinstance(examples, Stored)
    known = examples.fingerprint.encode() if is_stored else hashlib.sha256(np.ascontiguousarray(examples)).digest()
    file = keep_in / f"{name(known)}.npz" if keep_in else None
    found, content = (_kept(file) if file else None) or (None, known)
    if found is None:
        seen = _Watched(examples) if is_stored else examples
        found, content = extract_set(features, seen), seen.content if is_stored else known
        if file:
            _keep(file, found, content)
    return Reference(found, plain_name(split), len(examples), name(content if is_stored else known))


class _Watched:
    """Stored pictures whose content is known when all have been taken in their order."""

    def __init__(self, examples: Stored):
        self._examples, self._seen = examples, hashlib.sha256()
        self.shape, self.ndim, self.dtype = examples.shape, examples.ndim, examples.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        part = self._examples[rows]
        self._seen.update(part)
        return part

    @property
    def content(self) -> bytes:
        return self._seen.digest()


def _keep(file: Path, found: Extracted, content: bytes) -> None:
    arrays = {name: value for name, value in found._asdict().items() if value is not None}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as part:
            np.savez(part, content=np.frombuffer(content, np.uint8), **arrays)
    except OSError as error:
        logging.warning("the reference's features cannot be kept in %s: %s", file.parent, error)


def _kept(file: Path) -> tuple[Extracted, bytes] | None:
    """What `_keep` wrote: features, and the hash of the content that they are of."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            found = Extracted(stored["features"], stored["logits"] if "logits" in stored else None)
            # Files of older versions, all of pictures in memory, lack it and are named by it.
            return found, stored["content"].tobytes() if "content" in stored else b""
    except FileNotFoundError:
        return None
    except Exception as error:  # NumPy raises anything for a damaged file
        logging.warning("measuring the reference again, because %s cannot be read: %s", file, error)
        return None


def read_statistics(file: str, size: int) -> Reference:
    """A reference from a file of statistics: TTUR's (mu, sigma), or ADM's, which has mu_s and sigma_s beside these.

    Args:
        file: an .npz.
        size: how many features the network has that they are compared with.

    Raises:
        DataError: the file is missing, damaged, or holds something else, or the statistics of another network.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            mean, covariance = (np.asarray(stored[name], np.float64) for name in ("mu", "sigma"))
    except FileNotFoundError:
        raise DataError(f"there is no file of statistics {file}")
    except Exception as error:  # NumPy raises anything for a damaged file
        raise DataError(f"{file} holds no statistics (mu [D] and sigma [D, D] in an .npz): {error}")
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise DataError(f"{file} holds mu {mean.shape} and sigma {covariance.shape}; [D] and [D, D] are needed")
    if len(mean) != size:
        raise DataError(
            f"{file} holds statistics of {len(mean)} features, but the network here has {size}: give the one that they "
            "are of (--features, config.eval.features; files of the literature are of inception, 2048)"
        )
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return Reference(None, plain_name(Path(file).stem), 0, digest, (mean, covariance))


def plain_name(split: str) -> str:
    """A split or file as it can stand in a metric's name: "train[:80%]" -> "train80"."""
    return re.sub(r"[^a-zA-Z0-9]", "", split)
