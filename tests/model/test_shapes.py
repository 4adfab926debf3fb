from flax import nnx
from toy import toy_config

from rmae_jax.model import RMAE
from rmae_jax.model.remat import Execution
from rmae_jax.model.shapes import abstract_model


def test_structure_and_shapes_follow_config_and_execution():
    config = toy_config()
    for width in (32, 16):  # the same config, changed
        config.region_width = width
        for execution in (Execution(), Execution(attention="tpu_kernel", unrolled=True)):
            graphdef, shapes = abstract_model(config, execution)
            model = nnx.eval_shape(lambda e=execution: RMAE(config, execution=e, rngs=nnx.Rngs(0)))
            expected_graphdef, expected = nnx.split(model)
            assert graphdef == expected_graphdef
            assert shapes == nnx.to_pure_dict(expected)
