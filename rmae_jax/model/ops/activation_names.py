"""Names of the activations that a training step may save for the backward pass, see `jax.checkpoint_policies`.

Everything without a name is cheap to recompute.
"""

ATTENTION = "attention"  # what attention computes from queries, keys and values
PROJECTION = "projection"  # outputs of the linear layers before and after attention
LINEAR = "linear"  # outputs of other linear layers, or the input where that is a mean
