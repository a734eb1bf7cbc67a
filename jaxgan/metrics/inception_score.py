"""The Inception Score of class logits: exp E_x KL(p(y | x) || p(y)).

Salimans et al., Improved Techniques for Training GANs, 2016, section 4. With another classifier than Inception's 1008
classes it is a classifier score, and should be called so.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class InceptionScore(NamedTuple):
    """The mean over splits and their standard deviation (over n, not n - 1)."""

    mean: float
    std: float


def inception_score(logits: ArrayLike, splits: int = 10, *, shuffle_seed: int | None = None) -> InceptionScore:
    """exp mean_x sum_y p(y|x) (log p(y|x) - log p(y)), for each of several splits of the examples.

    In float64 and by log-softmax: the logarithm of a float32 softmax is NaN for confident classifiers. The score is low
    for small splits, so it means something only with their number and with N.

    Args:
        logits: `[N, K]`; of Inception without the bias of its last layer, as all references have it.
        splits: contiguous parts of i N // splits examples.
        shuffle_seed: shuffle first, with NumPy's RandomState of this seed: 2020 is what torch-fidelity does. Left out,
            the order is kept, as by the original code and StyleGAN3.

    Returns:
        The mean and standard deviation over splits: between 1 and K.

    Raises:
        ValueError: the shape is wrong, an entry is not finite, or a split would be empty.
    """
    logits = np.asarray(logits)
    if logits.ndim != 2 or not 1 <= splits <= len(logits):
        raise ValueError(f"logits {logits.shape} must be [N, K], and {splits} splits between 1 and N")
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite; some are not")
    order = np.arange(len(logits))
    if shuffle_seed is not None:
        order = np.random.RandomState(shuffle_seed).permutation(len(logits))
    parts = (order[i * len(logits) // splits : (i + 1) * len(logits) // splits] for i in range(splits))
    scores = [_score(logits[part]) for part in parts]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(logits: np.ndarray) -> float:
    """exp of the mean of sum_y p log p, less the sum over classes of the marginal times its logarithm."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(1, keepdims=True)
    p /= total
    negative_entropy = np.mean(np.einsum("nk,nk->n", p, shifted) - np.log(total[:, 0]))
    marginal = p.mean(0)
    marginal = marginal[marginal > 0.0]  # a class of probability 0 everywhere adds nothing
    return float(np.exp(negative_entropy - np.sum(marginal * np.log(marginal))))
