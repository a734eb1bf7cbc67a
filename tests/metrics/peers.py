"""What other libraries make of the same features: torch-fidelity 0.4.0, prdc 0.2 and pytorch-msssim 1.0.0.

`python -m tests.metrics.peers` writes goldens_metrics.npz beside this file; the tests read that, and those marked slow
compute it again with another seed. The libraries are in requirements-dev.txt; nothing but NumPy is imported until
`compute` is called. The written file is of torch 2.13.0, scikit-learn 1.9.1 and NumPy 2.4.6, from seed 0.

In the file: numbers by METRIC/WHAT. The inputs are drawn again, from NumPy's RandomState, whose stream is frozen.
"""

import pathlib
import sys
import types

import numpy as np

PATH = pathlib.Path(__file__).with_name("goldens_metrics.npz")
SEED = 0
KID_SUBSETS, KID_SUBSET_SIZE = 20, 100
SIZES = ((300, 300), (400, 250))  # for density and coverage


def features(seed: int, real: int = 300, fake: int = 260, size: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Like a network's: not negative, correlated, with means larger than their standard deviations."""
    rng = np.random.RandomState(seed)
    mix = rng.normal(size=(6, size))

    def draw(n, shift):
        x = rng.normal(size=(n, 6)) @ mix + 0.5 * rng.normal(size=(n, size))
        return (np.abs(x + 3.0 + shift) / 4.0).astype(np.float32)

    return draw(real, 0.0), draw(fake, 0.8)


def logits(seed: int) -> np.ndarray:
    """Mostly confident, a few not; a number of them that ten splits do not divide."""
    rng = np.random.RandomState(seed)
    return (rng.normal(size=(237, 11)) * rng.uniform(0.1, 12.0, size=(237, 1))).astype(np.float32)


def pictures(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [3, 256, 256, 3]: smooth ones, and the same with noise from weak to strong."""
    rng = np.random.RandomState(seed)
    coarse = rng.uniform(0, 255, size=(3, 16, 16, 3))
    smooth = np.kron(coarse, np.ones((1, 16, 16, 1)))
    noise = rng.normal(size=smooth.shape) * np.array([5.0, 30.0, 120.0]).reshape(3, 1, 1, 1)
    return tuple(np.clip(x, 0, 255).astype(np.uint8) for x in (smooth, smooth + noise))


def compute(seed: int) -> dict[str, float]:
    import torch

    stand_in_for_torchvision()
    import prdc
    import pytorch_msssim
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

    real, fake = features(seed)
    tensors = torch.from_numpy(real), torch.from_numpy(fake)
    results = {}
    statistics = [metric_fid.fid_features_to_statistics(x) for x in tensors]
    results["fid/value"] = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)[metric_fid.KEY_METRIC_FID]
    # Its input 1, the generated examples, is what ours calls real here: the same subsets are drawn then.
    kid = metric_kid.kid_features_to_metric(
        *tensors, kid_subsets=KID_SUBSETS, kid_subset_size=KID_SUBSET_SIZE, rng_seed=2020, verbose=False
    )
    results["kid/mean"] = kid[metric_kid.KEY_METRIC_KID_MEAN]
    results["kid/std"] = kid[metric_kid.KEY_METRIC_KID_STD]
    for name, shuffle in (("shuffled", True), ("in_order", False)):
        score = metric_isc.isc_features_to_metric(torch.from_numpy(logits(seed)), 10, shuffle)
        results[f"isc/{name}_mean"] = score[metric_isc.KEY_METRIC_ISC_MEAN]
        results[f"isc/{name}_std"] = score[metric_isc.KEY_METRIC_ISC_STD]
    precision, recall = metric_prc.calculate_precision_recall_full(tensors[1], tensors[0], neighborhood=3)
    results["prc/precision"], results["prc/recall"] = precision, recall
    for n, m in SIZES:
        for name, value in prdc.compute_prdc(*features(seed, n, m), nearest_k=5).items():
            results[f"prdc/{n}_{m}_{name}"] = value
    x, y = (torch.from_numpy(p).permute(0, 3, 1, 2).float() for p in pictures(seed))
    for i, value in enumerate(pytorch_msssim.ms_ssim(x, y, data_range=255, size_average=False)):
        results[f"ms_ssim/{i}"] = value
    return {name: float(value) for name, value in results.items()}


def stand_in_for_torchvision() -> None:
    """torch-fidelity imports it for networks that are not used here, and its wheel may not fit the installed torch."""
    for name in ("", ".datasets", ".transforms", ".transforms.functional", ".models"):
        module = sys.modules.setdefault(f"torchvision{name}", types.ModuleType(f"torchvision{name}"))
        if name and "." not in name[1:]:
            setattr(sys.modules["torchvision"], name[1:], module)
    for name in ("CIFAR10", "CIFAR100", "STL10"):
        if not hasattr(sys.modules["torchvision.datasets"], name):
            setattr(sys.modules["torchvision.datasets"], name, type(name, (), {}))
    sys.modules["torchvision.transforms"].functional = sys.modules["torchvision.transforms.functional"]


if __name__ == "__main__":
    np.savez_compressed(PATH, **compute(SEED))
