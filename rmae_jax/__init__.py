"""Region-aware masked autoencoders (R-MAE, ICLR 2024) in JAX/Flax."""
