"""Networks: flax modules only, one family per file, found by import path (`jaxgan.models.<family>`).

Every family has a `Generator` and a `Discriminator`, built from plain keyword values:

- `generator(z, label=None, *, train, index=None) -> x [B, *shape]`, in [-1, 1] for pictures;
- `discriminator(x, label=None, *, train, index=None) -> logits [B]`, float32; with the field `heads`, (logits, outputs
  by name), see `jaxgan.models.conditioning.Judge`.

`label` [B] int32 is there in conditional games alone, for which the field `classes` is set.

`index` [B] int32 is each example's place in the global batch: randomness inside a network (dropout) is drawn
for it, so that a run does not depend on the number of devices; None means `arange(B)`. `axis_name`, set by
`module.clone(axis_name=...)`, is the mapped axis over which batch statistics are averaged.
The variable collections are "params" and "batch_stats", and of generators with styles (methods `mapping` and
`synthesis`) "w_mean", the styles' running mean, and "noise", what stands for random noise when nothing is trained.
"""
