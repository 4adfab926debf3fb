"""Pre-trains a masked autoencoder; in a checkout, the same as python -m rmae_jax.

python main.py --config=configs/rmae_b.py --workdir=RUN [--config.KEY=VALUE]
"""

import runpy

if __name__ == "__main__":
    runpy.run_module("rmae_jax", run_name="__main__", alter_sys=True)
