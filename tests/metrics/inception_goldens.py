"""What torch-fidelity makes of pictures with an Inception of random weights, and PyTorch of its own files.

`python -m tests.metrics.inception_goldens` writes goldens_inception.npz beside this file. It needs PyTorch (in
requirements-dev.txt) and torch-fidelity 0.4.0 (`pip install --no-deps torch_fidelity==0.4.0 tqdm`); torchvision, which
torch-fidelity imports and does not use here, is replaced by empty modules.

In the file:
- `features/NAME`: torch-fidelity's features of `pictures()` with `random_state_dict()`; logits of the first pictures;
- `layer/NAME`: of each layer's output [8, h, w, c], in this order of axes, the entries at `places(size)`;
- `resize/tf1/N` sha256 of the float32 bytes of torch-fidelity's resize of `picture(N)` to 299, and `resize/torch/N`
  F.interpolate's at `places(size)`;
- `file/zip`, `file/legacy`: a small state_dict as torch.save writes it in either format; `tensor/NAME`: as torch.load
  reads it; `file/bfloat16`: one that NumPy has no type for; `file/module`: a whole torch.nn.Linear.
"""

import hashlib
import io
import pathlib
import sys
import tempfile
import types

import numpy as np

from jaxgan.metrics.networks.inception import LAYERS, SIZE

PATH = pathlib.Path(__file__).with_name("goldens_inception.npz")
TAPS = ("64", "192", "768", "2048", "logits_unbiased", "logits")
BLOCKS = tuple(dict.fromkeys(name.split(".")[0] for name in LAYERS))  # the sixteen children whose outputs are compared
SIDES = (28, 32, 64, 299, 512)
FEW = 3  # pictures whose logits are kept
KEPT = 800  # entries of a layer that are kept


def random_state_dict(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights by PyTorch's names, from a generator whose numbers NumPy has frozen; outputs keep their order of size."""
    rng = np.random.RandomState(seed)
    state = {}
    for name, layer in LAYERS.items():
        height, width, channels, out = layer.kernel
        std = np.sqrt(2.0 / (height * width * channels))
        state[f"{name}.conv.weight"] = std * rng.standard_normal((out, channels, height, width))
        state[f"{name}.bn.weight"] = rng.uniform(0.8, 1.2, out)
        state[f"{name}.bn.bias"] = 0.1 * rng.standard_normal(out)
        state[f"{name}.bn.running_mean"] = 0.1 * rng.standard_normal(out)
        state[f"{name}.bn.running_var"] = rng.uniform(0.5, 1.5, out)
        state[f"{name}.bn.num_batches_tracked"] = np.array(1, np.int64)
    # Large enough for an Inception Score that is well above 1.
    state["fc.weight"] = rng.standard_normal((1008, 2048))
    state["fc.bias"] = rng.standard_normal(1008)
    return {name: x if x.dtype == np.int64 else x.astype(np.float32) for name, x in state.items()}


def pictures(count: int = 8, side: int = 32, seed: int = 1) -> np.ndarray:
    """uint8 `[N, side, side, 3]`: half of them noise, half smooth."""
    rng = np.random.RandomState(seed)
    noise = rng.randint(0, 256, (count, side, side, 3))
    y, x = np.arange(side)[:, None, None] / side, np.arange(side)[:, None] / side
    along_y, along_x, phase = rng.uniform(0, 9, (3, count, 1, 1, 3))
    smooth = 127.5 + 127.5 * np.sin(along_y * y + along_x * x + phase)
    return np.where(np.arange(count)[:, None, None, None] % 2, smooth, noise).astype(np.uint8)


def places(size: int) -> np.ndarray:
    """Which entries of a flattened array are kept."""
    return np.sort(np.random.RandomState(size % 2**32).randint(0, size, KEPT))


def import_torch_fidelity():
    """torch_fidelity, with empty modules in torchvision's place."""
    if "torchvision" not in sys.modules:
        sys.modules["torchvision"] = types.ModuleType("torchvision")
        for name in ("datasets", "transforms", "transforms.functional", "models"):
            parent, _, child = f"torchvision.{name}".rpartition(".")
            sys.modules[f"{parent}.{child}"] = types.ModuleType(child)
            setattr(sys.modules[parent], child, sys.modules[f"{parent}.{child}"])
        for name in ("CIFAR10", "CIFAR100", "STL10"):
            setattr(sys.modules["torchvision.datasets"], name, type(name, (), {}))
    import torch_fidelity

    return torch_fidelity


def save_state_dict(state: dict[str, np.ndarray], path: str) -> None:
    """As torch.save writes it."""
    import torch

    torch.save({name: torch.from_numpy(np.array(x)) for name, x in state.items()}, path)


def features_and_layers(weights: str, shown: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """torch-fidelity's features, and its layers' outputs `[N, h, w, c]`."""
    import torch

    import_torch_fidelity()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3("inception", list(TAPS), feature_extractor_weights_path=weights)
    layers = {}

    def keep(name):
        def hook(module, given, out):
            layers[name] = out.permute(0, 2, 3, 1).contiguous().numpy()

        return hook

    for name in BLOCKS:
        getattr(network, name).register_forward_hook(keep(name))
    with torch.no_grad():
        out = network(torch.from_numpy(shown.transpose(0, 3, 1, 2).copy()))
    return dict(zip(TAPS, (x.numpy() for x in out), strict=True)), layers


def resize_goldens() -> dict[str, np.ndarray]:
    """Both conventions of bilinear resizing, of one picture of each size."""
    import torch
    import torch.nn.functional as F

    import_torch_fidelity()
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    found = {}
    for side in SIDES:
        x = torch.from_numpy(pictures(2, side).transpose(0, 3, 1, 2).astype(np.float32))
        tf1 = interpolate_bilinear_2d_like_tensorflow1x(x, size=(SIZE, SIZE), align_corners=False)
        tf1 = tf1.permute(0, 2, 3, 1).contiguous().numpy()
        found[f"resize/tf1/{side}"] = np.array(hashlib.sha256(tf1.tobytes()).hexdigest())
        half = F.interpolate(x, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        half = half.permute(0, 2, 3, 1).contiguous().numpy().ravel()
        found[f"resize/torch/{side}"] = half[places(half.size)]
    return found


def file_goldens() -> dict[str, np.ndarray]:
    """Small files of PyTorch's, as bytes, and what is in them."""
    import torch

    torch.manual_seed(0)
    wide = torch.randn(6, 5)
    layer = torch.nn.Conv2d(2, 3, 2)
    state = layer.state_dict(keep_vars=True)  # parameters, in an OrderedDict with metadata
    state["part"] = wide[1:4, 2:]
    state["transposed"] = wide.T  # of the same storage
    state["double"] = torch.randn(3, dtype=torch.float64)
    state["half"] = torch.randn(4).half()
    state["long"] = torch.tensor(2**40)
    state["int"] = torch.tensor([-1, 2], dtype=torch.int32)
    state["bytes"] = torch.tensor([0, 255], dtype=torch.uint8)
    state["truth"] = torch.tensor([True, False])
    state["empty"] = torch.zeros(0, 3)

    def saved(x, **kwargs):
        file = io.BytesIO()
        torch.save(x, file, **kwargs)
        return np.frombuffer(file.getvalue(), np.uint8)

    found = {
        "file/zip": saved(state),
        "file/legacy": saved(state, _use_new_zipfile_serialization=False),
        "file/bfloat16": saved({"x": torch.zeros(2, dtype=torch.bfloat16)}),
        "file/module": saved(torch.nn.Linear(1, 1)),
    }
    for kind in ("zip", "legacy"):
        read = torch.load(io.BytesIO(found[f"file/{kind}"].tobytes()))
        for name, tensor in read.items():
            x = tensor.detach().numpy()
            assert np.array_equal(found.setdefault(f"tensor/{name}", x), x)
    return found


def goldens() -> dict[str, np.ndarray]:
    """All that the file holds."""
    with tempfile.TemporaryDirectory() as folder:
        weights = f"{folder}/random.pth"
        save_state_dict(random_state_dict(), weights)
        features, layers = features_and_layers(weights, pictures())
    found = {}
    for name, x in features.items():
        found[f"features/{name}"] = x[:FEW] if name.startswith("logits") else x
    for name, x in layers.items():
        found[f"layer/{name}"] = x.ravel()[places(x.size)]
    return found | resize_goldens() | file_goldens()


if __name__ == "__main__":
    np.savez_compressed(PATH, **goldens())
    print(f"{PATH}: {PATH.stat().st_size / 1000:.0f} kB")
