"""The packages of a wheel; setup.cfg has everything else."""

from setuptools import find_packages, setup

# Recipes import each other from `configs`. Installed under that name, they could hide a package of the user.
CONFIGS = "rmae_jax.recipes.configs"

setup(
    packages=[*find_packages(include=["data_prep*", "rmae_jax*"]), CONFIGS, f"{CONFIGS}.ablations"],
    package_dir={CONFIGS: "configs"},
)
