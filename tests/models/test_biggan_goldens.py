"""BigGAN's and BigGAN-deep's activations against those that PyTorch once made of the same weights and inputs.

The live comparisons, of gradients too, skip themselves where PyTorch is missing; this one needs none.
`python -m tests.models.test_biggan_goldens` writes biggan_goldens.npz beside this file anew, with PyTorch.
"""

import pathlib

import jax
import numpy as np
import pytest

from jaxgan.models import biggan, biggan_deep
from tests.models import test_biggan, test_biggan_deep
from tests.models.test_biggan import LABEL, filled, jit

PATH = pathlib.Path(__file__).parent / "biggan_goldens.npz"
FAMILIES = {
    "biggan": (biggan, test_biggan, test_biggan.BigGAN, 9),
    "biggan_deep": (biggan_deep, test_biggan_deep, test_biggan_deep.BigGANDeep, 7),
}


def generator(family):
    """(module, variables, z) of a conditional one."""
    models, tests, _, size = FAMILIES[family]
    module = models.Generator(**tests.GENERATOR, classes=3)
    z = np.random.default_rng(1).normal(size=(4, size)).astype(np.float32)
    return module, filled(module, z, LABEL), z


def discriminator(family):
    """(module, variables, pictures) of a conditional one."""
    models, tests, _, _ = FAMILIES[family]
    module = models.Discriminator(**tests.DISCRIMINATOR, classes=3)
    height = 2 * tests.DISCRIMINATOR["attention"]
    x = np.random.default_rng(2).normal(size=(4, height, 12, 3)).astype(np.float32)
    return module, filled(module, x, LABEL), x


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_and_logits_are_those_that_pytorch_once_made(family):
    for name, (module, variables, inputs) in {"pictures": generator(family), "logits": discriminator(family)}.items():

        def run(variables, inputs, module=module):
            return module.apply(variables, inputs, LABEL, train=True, mutable=["batch_stats"])[0]

        with np.load(PATH) as golden:
            weights, expected = golden[f"{family}/{name}/weights"], golden[f"{family}/{name}"]
        again = "not the network's fault; write the file again: python -m tests.models.test_biggan_goldens"
        np.testing.assert_allclose(checksum(variables), weights, rtol=1e-6, err_msg=again)
        np.testing.assert_allclose(jit(run)(variables, inputs), expected, rtol=1e-5, atol=1e-5)


def checksum(variables) -> float:
    return sum(float(np.abs(leaf).sum(dtype=np.float64)) for leaf in jax.tree.leaves(variables))


def write() -> None:
    """The file, from PyTorch."""
    golden = {}
    for family, (_, _, reference, _) in FAMILIES.items():
        _, variables, z = generator(family)
        golden[f"{family}/pictures"] = reference(variables["params"]).generate(z, LABEL).detach().numpy()
        golden[f"{family}/pictures/weights"] = checksum(variables)
        _, variables, x = discriminator(family)
        theirs = reference(variables["params"])
        golden[f"{family}/logits"] = theirs.discriminate(theirs.tensor(x), LABEL).detach().numpy()
        golden[f"{family}/logits/weights"] = checksum(variables)
    kept = {name: np.float32(value) if np.ndim(value) else value for name, value in golden.items()}
    np.savez_compressed(PATH, **kept)


if __name__ == "__main__":
    write()
