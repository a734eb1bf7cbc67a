"""The shape of data that need not be there."""

import pytest

from experiments import common
from jaxgan.aot.shapes import KNOWN, find_data_shape
from jaxgan.errors import ConfigError, DataError


def config(name, **options):
    c = common.base("shapes")
    c.data.name = name
    c.data.update(options)
    return c


def test_a_known_set_has_its_shape_without_being_there():
    data = find_data_shape(config("cifar10"))
    assert (data.examples, data.shape, data.label_counts) == (50_000, (32, 32, 3), (5_000,) * 10)
    assert data.arrays["real"].shape == (50_000, 32, 32, 3) and data.arrays["real"].dtype == "uint8"
    assert data.arrays["label"].shape == (50_000,) and data.arrays["label"].dtype == "int32"


def test_pictures_are_resized_and_lose_their_colours_as_the_configuration_says():
    data = find_data_shape(config("celeb_a", image_size=64, channels=1))
    assert data.shape == (64, 64, 1) and data.label_counts == () and list(data.arrays) == ["real"]
    assert find_data_shape(config("celeb_a")).shape == (218, 178, 3)


def test_the_embedded_set_is_asked_itself():
    data = find_data_shape(config("mnist5k"))
    assert data.arrays["real"].shape == (5_000, 28, 28, 1) and sum(data.label_counts) == 5_000


def test_points_are_data_too():
    data = find_data_shape(config("ring"))
    assert data.shape == (2,) and data.arrays["real"].dtype == "float32"


def test_a_given_shape_needs_no_data():
    data = find_data_shape(config("somebody's"), "1000,48,40,3")
    assert (data.examples, data.shape, data.label_counts) == (1_000, (48, 40, 3), ())
    assert find_data_shape(config("somebody's"), "1000,48,40,3,7").label_counts == (142,) * 7


@pytest.mark.parametrize("given", ["1000", "1000,48,40", "0,48,40,3", "1000x48x40x3", "1000,48,40,3,7,1"])
def test_a_shape_that_is_none(given):
    with pytest.raises(ConfigError, match=r"write EXAMPLES,H,W,C or EXAMPLES,H,W,C,CLASSES"):
        find_data_shape(config("cifar10"), given)


def test_a_set_that_is_neither_known_nor_there_says_how_to_go_on(tmp_path):
    with pytest.raises(DataError, match=r"(?s)not in .*--data_shape=EXAMPLES,H,W,C.*celeb_a"):
        find_data_shape(config("svhn_cropped", data_dir=str(tmp_path)))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "celeb_a", "imagenet_resized/64x64"])
def test_the_known_shapes_are_those_of_tfds(name, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    features = tfds.builder(name, data_dir=tmp_path).info.features
    _, shape, classes = KNOWN[name]
    assert features["image"].shape == shape
    assert classes == (features["label"].num_classes if "label" in features else 0)
