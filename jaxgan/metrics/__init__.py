"""Distances between two sets of features, and the like: features [N, D] in, numbers out.

The cores know nothing of pictures or networks; what the features are is told by the name that a result is logged under.
They import JAX and NumPy and nothing else, so that they can be used alone::

    from jaxgan import metrics
    metrics.frechet_distance_from_features(real, fake)

docs/metrics.md says what each number depends on. Networks that make features of pictures: `jaxgan.metrics.features`.
"""

from jaxgan.metrics.frechet import (
    Extrapolation,
    frechet_distance,
    frechet_distance_from_features,
    frechet_distance_infinity,
    mean_and_covariance,
)
from jaxgan.metrics.inception_score import InceptionScore, inception_score
from jaxgan.metrics.kid import KernelDistance, kid, kid_blocks, kid_subsets
from jaxgan.metrics.modes import LabelledModes, ModeCoverage, label_histogram, labelled_modes, mode_coverage, reverse_kl
from jaxgan.metrics.ms_ssim import ms_ssim
from jaxgan.metrics.neighbours import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    expected_coverage,
    nearest,
    neighbourhoods,
    precision_recall,
)
from jaxgan.metrics.prd import PrecisionRecallCurve, prd
from jaxgan.metrics.sliced_wasserstein import sliced_wasserstein_distance
from jaxgan.metrics.spectrogram import log_mel

__all__ = [
    "DensityCoverage",
    "Extrapolation",
    "InceptionScore",
    "KernelDistance",
    "LabelledModes",
    "ModeCoverage",
    "PrecisionRecall",
    "PrecisionRecallCurve",
    "density_coverage",
    "expected_coverage",
    "frechet_distance",
    "frechet_distance_from_features",
    "frechet_distance_infinity",
    "inception_score",
    "kid",
    "kid_blocks",
    "kid_subsets",
    "label_histogram",
    "labelled_modes",
    "log_mel",
    "mean_and_covariance",
    "mode_coverage",
    "ms_ssim",
    "nearest",
    "neighbourhoods",
    "prd",
    "precision_recall",
    "reverse_kl",
    "sliced_wasserstein_distance",
]
