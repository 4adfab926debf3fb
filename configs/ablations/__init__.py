"""Recipes of the ablations in docs/method.md, each of which changes keys of configs/rmae_b.py."""
