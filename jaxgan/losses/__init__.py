"""Loss functions of adversarial games: arrays in, unreduced arrays out.

This package imports JAX and nothing else, so that it can be used alone::

    from jaxgan import losses
    loss_d = losses.hinge_discriminator_loss(real_logits, fake_logits).mean()

adversarial     the two sides of each game, by name in `ADVERSARIAL`
divergences     f-GANs
classification  classes, codes, rotations, contrastive terms beside the game
penalties       on the gradient of any critic (or generator)
consistency     under augmentation of examples or latents; mode seeking
regularizers    LeCam, orthogonal, L2, clipping, lazy regularisation
spectral        spectral normalisation of parameters
transforms      unrolled and packed discriminators
auxiliary       reconstruction, cycle, features, perceptual
variational     terms of VAEs and of vector quantisation

docs/losses.md says which library means what by the same name.
"""

from jaxgan.losses.adversarial import (
    ADVERSARIAL,
    AdversarialLoss,
    dual_contrastive_discriminator_loss,
    dual_contrastive_generator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    least_squares_discriminator_loss,
    least_squares_generator_loss,
    minimax_discriminator_loss,
    minimax_generator_loss,
    non_saturating_discriminator_loss,
    non_saturating_generator_loss,
    relativistic_average_discriminator_loss,
    relativistic_average_generator_loss,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
    top_k_mask,
    top_k_schedule,
    wasserstein_discriminator_loss,
    wasserstein_generator_loss,
)
from jaxgan.losses.auxiliary import (
    charbonnier_loss,
    cycle_loss,
    feature_matching_loss,
    identity_loss,
    l1_loss,
    l2_loss,
    mean_feature_matching_loss,
    perceptual_loss,
    total_variation,
)
from jaxgan.losses.classification import (
    ac_gan_loss,
    conditional_contrastive_loss,
    data_to_data_cross_entropy_loss,
    info_gan_categorical_loss,
    info_gan_gaussian_loss,
    multi_hinge_discriminator_loss,
    multi_hinge_generator_loss,
    multi_hinge_loss,
    rotate_four_ways,
    rotation_loss,
)
from jaxgan.losses.consistency import (
    bcr_penalty,
    consistency_penalty,
    cr_penalty,
    mode_seeking_penalty,
    zcr_discriminator_penalty,
    zcr_generator_penalty,
)
from jaxgan.losses.divergences import (
    F_DIVERGENCES,
    FDivergence,
    f_gan_discriminator_loss,
    f_gan_generator_loss,
)
from jaxgan.losses.penalties import (
    dragan_penalty,
    path_length_penalty,
    r1_penalty,
    r2_penalty,
    wgan_gp_penalty,
    wgan_lp_penalty,
    zero_centered_gp_penalty,
)
from jaxgan.losses.regularizers import (
    LeCamState,
    l2_penalty,
    lazy_adam,
    lazy_regularization,
    lecam_init,
    lecam_penalty,
    orthogonal_penalty,
    weight_clipping,
)
from jaxgan.losses.spectral import (
    SpectralVectors,
    spectral_init,
    spectral_iterate,
    spectral_normalize,
)
from jaxgan.losses.transforms import (
    pack,
    unrolled,
)
from jaxgan.losses.variational import (
    bernoulli_nll,
    gaussian_kl,
    gaussian_nll,
    straight_through,
    vq_codebook_loss,
    vq_commitment_loss,
)

__all__ = [
    "ADVERSARIAL",
    "F_DIVERGENCES",
    "AdversarialLoss",
    "FDivergence",
    "LeCamState",
    "SpectralVectors",
    "ac_gan_loss",
    "bcr_penalty",
    "bernoulli_nll",
    "charbonnier_loss",
    "conditional_contrastive_loss",
    "consistency_penalty",
    "cr_penalty",
    "cycle_loss",
    "data_to_data_cross_entropy_loss",
    "dragan_penalty",
    "dual_contrastive_discriminator_loss",
    "dual_contrastive_generator_loss",
    "f_gan_discriminator_loss",
    "f_gan_generator_loss",
    "feature_matching_loss",
    "gaussian_kl",
    "gaussian_nll",
    "hinge_discriminator_loss",
    "hinge_generator_loss",
    "identity_loss",
    "info_gan_categorical_loss",
    "info_gan_gaussian_loss",
    "l1_loss",
    "l2_loss",
    "l2_penalty",
    "lazy_adam",
    "lazy_regularization",
    "least_squares_discriminator_loss",
    "least_squares_generator_loss",
    "lecam_init",
    "lecam_penalty",
    "mean_feature_matching_loss",
    "minimax_discriminator_loss",
    "minimax_generator_loss",
    "mode_seeking_penalty",
    "multi_hinge_discriminator_loss",
    "multi_hinge_generator_loss",
    "multi_hinge_loss",
    "non_saturating_discriminator_loss",
    "non_saturating_generator_loss",
    "orthogonal_penalty",
    "pack",
    "path_length_penalty",
    "perceptual_loss",
    "r1_penalty",
    "r2_penalty",
    "relativistic_average_discriminator_loss",
    "relativistic_average_generator_loss",
    "relativistic_discriminator_loss",
    "relativistic_generator_loss",
    "rotate_four_ways",
    "rotation_loss",
    "spectral_init",
    "spectral_iterate",
    "spectral_normalize",
    "straight_through",
    "top_k_mask",
    "top_k_schedule",
    "total_variation",
    "unrolled",
    "vq_codebook_loss",
    "vq_commitment_loss",
    "wasserstein_discriminator_loss",
    "wasserstein_generator_loss",
    "weight_clipping",
    "wgan_gp_penalty",
    "wgan_lp_penalty",
    "zcr_discriminator_penalty",
    "zcr_generator_penalty",
    "zero_centered_gp_penalty",
]
