"""jaxgan: generative adversarial networks in JAX, as pure functions.

`jaxgan.losses` stands alone: it imports nothing but JAX, so that other research can use it without the rest.
"""

__version__ = "0.1.0"
