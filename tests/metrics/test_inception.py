"""Inception layer by layer against torch-fidelity 0.4.0, with random weights that both sides draw alike.

Real weights are not needed to find a mistake: each of the known ones (`MUTANTS`) changes the features by more than 1e-3
of their norm, the correct network by 3e-7. goldens_inception.npz is described in inception_goldens.py.

The tests marked slow run torch-fidelity itself, with other weights, and the metrics from end to end.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.data import raw
from jaxgan.data.cache import default_data_dir
from jaxgan.metrics import resize, weights
from jaxgan.metrics.features import INCEPTION_VARIABLE, extract, load_features
from jaxgan.metrics.frechet import frechet_distance_from_features
from jaxgan.metrics.inception_score import inception_score
from jaxgan.metrics.kid import kid_subsets
from jaxgan.metrics.neighbours import precision_recall
from jaxgan.metrics.networks import inception
from tests.metrics import inception_goldens
from tests.metrics.inception_goldens import BLOCKS, KEPT, PATH, TAPS, pictures, places, random_state_dict

GOLDENS = np.load(PATH)
TOLERANCE = 1e-5  # relative, in L2
LEAST_MUTANT = 1e-3


def error(ours, reference):
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    assert ours.shape == reference.shape
    return np.linalg.norm(ours - reference) / np.linalg.norm(reference)


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(jnp.asarray, weights.inception_params(random_state_dict()))


@pytest.fixture(scope="module")
def network():
    return jax.jit(inception.apply)


def prepared(shown):
    return inception.scale_tf(resize.resize_tf1(jnp.asarray(shown), inception.SIZE))


@pytest.fixture(scope="module")
def ours(params, network):
    """All features and layers of `pictures()`, two at a time, so that the mutants need not compile it again."""
    parts = [jax.tree.map(np.asarray, network(params, prepared(pictures()[i : i + 2]))) for i in range(0, 8, 2)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize("name", TAPS)
def test_features_agree_with_torch_fidelity(ours, name):
    reference = GOLDENS[f"features/{name}"]
    assert ours[name].dtype == np.float32
    assert error(ours[name][: len(reference)], reference) < TOLERANCE


@pytest.mark.parametrize("name", BLOCKS)
def test_layers_agree_with_torch_fidelity(ours, name):
    reference = GOLDENS[f"layer/{name}"]
    assert np.count_nonzero(reference) > KEPT / 4  # a ReLU leaves enough to compare
    assert error(ours[name].ravel()[places(ours[name].size)], reference) < TOLERANCE


def test_the_unbiased_logits_lack_the_bias_alone(ours, params):
    bias = ours["logits"] - ours["logits_unbiased"]
    # Differences of numbers of about 500, of which float32 keeps 3e-5.
    np.testing.assert_allclose(bias, np.broadcast_to(params["fc"]["bias"], bias.shape), atol=2e-4)


def test_the_network_has_as_many_numbers_as_the_original():
    count = sum(np.prod(shape) for leaves in inception.shapes().values() for shape in leaves.values())
    assert len(inception.LAYERS) == 94
    assert count == 23_885_486 - 94  # torch-fidelity's module less its counters of batches


def counted_padding(x):
    total = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
    return total / 9.0


def average_block_7c(chain, x):
    return inception._block_7(chain, x, inception._average_pool(x))


# What is replaced, by what.
MUTANTS = {
    "resize with half-pixel centres": (resize, "resize_tf1", resize.resize_torch),
    "pytorch-fid's scaling": (inception, "scale_tf", inception.scale_torch),
    "padding counted in average pools": (inception, "_average_pool", counted_padding),
    "average pool in 7c": (inception.BLOCKS, "Mixed_7c", average_block_7c),
    "PyTorch's epsilon": (inception, "EPSILON", 1e-5),
}


@pytest.mark.parametrize("what", MUTANTS)
def test_a_known_mistake_is_far_outside_the_tolerance(what, params, network, monkeypatch):
    where, name, other = MUTANTS[what]
    if isinstance(where, dict):
        monkeypatch.setitem(where, name, other)
    else:
        monkeypatch.setattr(where, name, other)
    # Mistakes before the network leave it as it was compiled; those within need a function that is new to `jit`.
    call = network if name in ("resize_tf1", "scale_tf") else jax.jit(lambda p, x: inception.apply(p, x)["2048"])
    out = call(params, prepared(pictures()[:2]))
    out = out["2048"] if isinstance(out, dict) else out
    assert error(out, GOLDENS["features/2048"][:2]) > LEAST_MUTANT


def test_an_average_pool_divides_by_the_entries_that_there_are():
    x = np.arange(12.0, dtype=np.float32).reshape(1, 3, 4, 1)
    out = np.asarray(inception._average_pool(x))[0, :, :, 0]
    grid = x[0, :, :, 0]
    expected = [[grid[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean() for j in range(4)] for i in range(3)]
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_a_max_pool_of_stride_1_ignores_the_padding():
    x = -1.0 - np.arange(12.0, dtype=np.float32).reshape(1, 3, 4, 1)  # below zero, as no padded zero is
    out = np.asarray(inception._max_pool(x, 1))[0, :, :, 0]
    grid = x[0, :, :, 0]
    expected = [[grid[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].max() for j in range(4)] for i in range(3)]
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("scale, ends", [("scale_tf", (-1.0, 127 / 128)), ("scale_torch", (-1.0, 1.0))])
def test_the_scalings_map_0_and_255_to(scale, ends):
    np.testing.assert_allclose(getattr(inception, scale)(np.float32([0, 255])), ends, rtol=1e-6)


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """Other weights, as arrays and as a file that both sides read."""
    pytest.importorskip("torch")
    try:
        inception_goldens.import_torch_fidelity()
    except ImportError:
        pytest.skip("torch-fidelity is not installed: see inception_goldens.py")
    state = random_state_dict(7)
    # Random features differ little between pictures. The logits leave out what they have in common and enlarge the
    # rest, or the Inception Score would be 1 whatever is computed.
    call = jax.jit(lambda p, x: inception.apply(p, x)["2048"])
    features = np.asarray(call(weights.inception_params(state), prepared(pictures(4, seed=5))))
    mean, kernel = features.mean(0), state["fc.weight"]
    kernel -= np.outer(kernel @ mean, mean) / (mean @ mean)
    kernel *= 3.0 / np.std((features - mean) @ kernel.T)
    file = str(tmp_path_factory.mktemp("live") / "random.pth")
    inception_goldens.save_state_dict(state, file)
    return state, file


@pytest.mark.slow
def test_features_and_layers_of_other_weights_agree_with_torch_fidelity_live(live, network):
    state, file = live
    shown = pictures(4, 48, seed=6)
    features, layers = inception_goldens.features_and_layers(file, shown)
    out = network(weights.inception_params(state), prepared(shown))
    for name, reference in (features | layers).items():
        assert error(out[name], reference) < TOLERANCE, name


@pytest.mark.slow
def test_the_metrics_agree_with_torch_fidelity_from_end_to_end(live):
    from torch import from_numpy
    from torch.utils.data import Dataset

    torch_fidelity = inception_goldens.import_torch_fidelity()
    _, file = live
    real = pictures(64, seed=3)
    fake = np.concatenate([real[:16] // 2 + 60, pictures(48, seed=4) // 4 * 3])

    class Set(Dataset):
        def __init__(self, shown):
            self.shown = from_numpy(shown.transpose(0, 3, 1, 2).copy())

        def __len__(self):
            return len(self.shown)

        def __getitem__(self, i):
            return self.shown[i]

    theirs = torch_fidelity.calculate_metrics(
        input1=Set(fake),
        input2=Set(real),
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=file,
        feature_layer_prc="2048",
        isc=True,
        isc_splits=4,
        fid=True,
        kid=True,
        kid_subsets=20,
        kid_subset_size=40,
        prc=True,
        batch_size=16,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    network = load_features("inception", weights=file)
    ours_real, ours_fake = (extract(network, shown, batch_size=16) for shown in (real, fake))

    fid = frechet_distance_from_features(ours_real["features"], ours_fake["features"])
    assert fid == pytest.approx(theirs["frechet_inception_distance"], rel=1e-5)
    kid = kid_subsets(ours_fake["features"], ours_real["features"], subsets=20, subset_size=40)
    assert kid.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-5)
    score = inception_score(ours_fake["logits"], splits=4, shuffle_seed=2020)
    assert score.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert score.mean > 2  # so that the comparison says something
    found = precision_recall(ours_real["features"], ours_fake["features"])
    assert found == (theirs["precision"], theirs["recall"])
    print(fid, kid, score, found, theirs)


needs_file = pytest.mark.skipif(not os.environ.get(INCEPTION_VARIABLE), reason=f"{INCEPTION_VARIABLE} names no file")


@pytest.mark.slow
@needs_file
def test_the_users_file_is_a_published_one_and_sees_differences():
    network = load_features("inception")
    assert network.weights_sha256 in weights.PUBLISHED
    out = extract(network, pictures(4))
    assert np.isfinite(out["features"]).all() and out["features"].min() >= 0 and out["logits"].std(0).mean() > 0.1


def cifar10():
    """The training pictures in the order of their authors' archive, where that lies; nothing is downloaded."""
    folder = raw.manual_folder(raw.builder_of("cifar10", str(default_data_dir())))
    file = folder / "cifar-10-binary.tar.gz"
    if not file.exists():
        pytest.skip(f"{file} is not there")
    names = [f"data_batch_{i}.bin" for i in range(1, 6)]
    members = raw.read_members(file, names)
    records = np.frombuffer(b"".join(members[name] for name in names), np.uint8).reshape(-1, 3073)
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


@pytest.mark.slow
@needs_file
def test_the_users_file_gives_cifar_10_its_published_score():
    """50,000 pictures, for an accelerator: hours on a processor. The score is torch-fidelity's README's."""
    out = extract(load_features("inception"), cifar10())
    score = inception_score(out["logits"], shuffle_seed=2020)
    assert score.mean == pytest.approx(11.23678, abs=1e-3)
    assert score.std == pytest.approx(0.09514, abs=1e-3)
