"""Names of the activations that a training step may save for the backward pass, see `jax.checkpoint_policies`.

Activations without a name are cheap to recompute.
"""

ATTENTION = "attention"  # the output of attention, before its projection; in plain attention also the softmax
PROJECTION = "projection"  # outputs of the linear layers before and after attention
LINEAR = "linear"  # outputs of other linear layers, or their input if it is a mean over tokens
