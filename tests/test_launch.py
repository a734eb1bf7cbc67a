"""launch.py as a user meets it: a subprocess, its exit status and what it prints."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from tests.runs import launch, rows

TINY = "--config=experiments/dcgan.py:tiny"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A work folder, and what training it printed."""
    workdir = tmp_path_factory.mktemp("launch") / "run"
    return workdir, launch(TINY, f"--workdir={workdir}", "--config.duration=3 steps")


@pytest.mark.smoke
def test_train(trained):
    workdir, result = trained
    assert "100% step 3/3" in result.stdout and "images/s" in result.stdout
    assert "complete" in result.stderr and "orbax" not in result.stderr.lower()
    assert [row["step"] for row in rows(workdir)] == [1, 2, 3]


@pytest.mark.smoke
def test_sample_needs_the_workdir_alone(trained):
    workdir, _ = trained
    result = launch("--mode=sample", f"--workdir={workdir}", "--num_samples=37")
    npz, png = map(pathlib.Path, result.stdout.split())
    samples = np.load(npz)["arr_0"]
    assert samples.shape == (37, 28, 28, 1) and samples.dtype == np.uint8
    assert Image.open(png).size == ((10 * 30 + 2) * 2, (4 * 30 + 2) * 2)
    # The first samples do not depend on how many there are, nor on whether the data set is there.
    again = launch("--mode=sample", f"--workdir={workdir}", "--num_samples=5", env={"TFDS_DATA_DIR": "/nowhere"})
    np.testing.assert_array_equal(np.load(again.stdout.split()[0])["arr_0"], samples[:5])
    other = launch("--mode=sample", f"--workdir={workdir}", "--num_samples=5", "--seed=1")
    assert not np.array_equal(np.load(other.stdout.split()[0])["arr_0"], samples[:5])


def test_dry_run_trains_nothing(tmp_path):
    workdir = tmp_path / "run"
    result = launch(TINY, f"--workdir={workdir}", "--dry_run", "--config.batch_size=16", devices="2")
    assert "batch_size: 16" in result.stdout and "16, 8 a device" in result.stdout
    assert "pmap over 2 device(s)" in result.stdout
    # Generator: 100*7*7*8, two batch norms of 8 and 4, kernels 4*4*8*4 and 4*4*4*1, and the last bias.
    assert f"{100 * 49 * 8 + 2 * 8 + 2 * 4 + 16 * 8 * 4 + 16 * 4 + 1:,} parameters" in result.stdout
    assert not workdir.exists()


@pytest.mark.slow  # a whole run
def test_default_workdir(tmp_path):
    launch(TINY, cwd=tmp_path, env={"PYTHONPATH": str(pathlib.Path(__file__).parent.parent)}, check=False)
    # launch.py finds experiments/ by the path that was typed, so from elsewhere it has to be typed in full.
    root = pathlib.Path(__file__).parent.parent
    launch(f"--config={root}/experiments/toy2d.py:tiny", cwd=tmp_path)
    assert (tmp_path / "runs" / "toy2d-tiny" / "config.json").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--config.batchsize=4"], ["batchsize", "batch_size"]),
        (["--config.health.pations=1"], ["pations", "dry_run"]),
        (["--config.batch_size=many"], ["batch_size", "many"]),
        (["--config.model.name=stylegan9"], ["unknown model", "dcgan", "mlp"]),
        (["--config.data.name=nothing_like_it"], ["nothing_like_it", "mnist5k"]),
        (["--config.data.image_size=30"], ["30x30", "32x32"]),
        (["--config.data.name=folder", "--config.data.path=/no/such/folder"], ["/no/such/folder"]),
        (["stray"], ["stray"]),
    ],
    ids=lambda value: value[0] if value and value[0].startswith(("--", "stray")) else "",
)
def test_mistakes_end_with_one_message(arguments, words, tmp_path):
    result = launch(TINY, f"--workdir={tmp_path}/run", *arguments, check=False)
    assert result.returncode != 0
    for word in words:
        assert word in result.stderr + result.stdout
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_no_config(tmp_path):
    result = launch("--mode=train", check=False)
    assert result.returncode != 0 and "--config=experiments/dcgan.py" in result.stderr + result.stdout
    result = launch("--config=experiments/dcgan.py:huge", check=False)
    assert result.returncode != 0 and "known: mnist" in result.stderr


def test_sampling_from_nothing(tmp_path):
    result = launch("--mode=sample", f"--workdir={tmp_path}/none", check=False)
    assert result.returncode == 1 and "holds no run" in result.stderr and "Traceback" not in result.stderr


def test_a_workdir_that_cannot_be_made():
    result = launch(TINY, "--workdir=/proc/run", check=False)  # not even root writes there
    assert result.returncode == 1 and "/proc/run" in result.stderr and "Traceback" not in result.stderr


def test_a_full_disk_loses_nothing_saved(tmp_path):
    """A limit on the size of a file fails writes as a full disk does, and needs no disk to fill."""
    workdir = tmp_path / "run"
    common = (TINY, f"--workdir={workdir}", "--config.model.generator.widths=(64,32)")
    launch(*common, "--config.duration=2 steps")

    limit = ("bash", "-c", 'ulimit -f 100; exec "$@"', "bash")  # 100 KiB a file
    result = launch(*common, "--config.duration=6 steps", check=False, prefix=limit)
    assert result.returncode == 1, result.stderr
    assert "could not save a checkpoint" in result.stderr and "Traceback" not in result.stderr
    # With room again, the run goes on from what it had.
    assert "from update 2 to 6" in launch(*common, "--config.duration=6 steps").stderr
    assert [row["step"] for row in rows(workdir)] == [1, 2, 3, 4, 5, 6]
