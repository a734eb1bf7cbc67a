"""Folders of its own for every test of the data room, and one prepared mnist5k for all that only read it."""

import shutil

import pytest
from absl import logging as absl_logging

from jaxgan import data


@pytest.fixture(autouse=True)
def default_folder(tmp_path, monkeypatch):
    """Where data goes that a test gives no folder for: never the user's own."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "default"))
    return tmp_path / "default"


@pytest.fixture(scope="session")
def mnist5k_dir(tmp_path_factory):
    """A data folder with mnist5k in it, to be read only."""
    folder = tmp_path_factory.mktemp("tfds")
    data.load("mnist5k", data_dir=str(folder))
    return folder


@pytest.fixture
def mnist5k_copy(mnist5k_dir, tmp_path):
    """(data folder, the set's own folder in it), to be damaged."""
    shutil.copytree(mnist5k_dir, tmp_path / "copy")
    return tmp_path / "copy", tmp_path / "copy" / "mnist5k" / "1.0.0"


@pytest.fixture
def said(caplog):
    """What has been logged so far: call it for the list of messages."""
    caplog.set_level("INFO", logger=absl_logging.get_absl_logger().name)
    return lambda: [record.getMessage() for record in caplog.records if "tensorflow_datasets" not in record.pathname]


@pytest.fixture
def unwritable(tmp_path):
    """A folder that not even root can make."""
    (tmp_path / "file").write_text("in the way")
    return tmp_path / "file" / "folder"
