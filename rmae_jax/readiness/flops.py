"""Floating-point operations of a step's matrix products, counted in what JAX traces.

The compiler's own count is of no use here: it counts the body of a loop once, and on TPU, where products become
convolutions, it has no loops' turns to multiply by.
"""

import math

import jax
from jax.interpreters.partial_eval import dce_jaxpr

from rmae_jax.model.ops.linear import sum_by_product

_JAXPRS = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def product_flops(jaxpr: jax.extend.core.Jaxpr) -> int:
    """FLOPs of all matrix products of a jaxpr, in one call and on one device: 2 B M N K each.

    Scans count their bodies as often as they run. Inside of shard_map, shapes are those of one device; a step does
    all of its products there, or is of one device alone. Element-wise operations are not counted, sums that are
    written as products neither, and nothing whose result is not used: derivatives written by hand are those of all
    inputs, images too.

    Raises:
      ValueError: a product stands where the number of its runs cannot be told, in a while or a cond.
    """
    return _flops(dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0])


def _flops(jaxpr: jax.extend.core.Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
            continue
        if params.get("name") == sum_by_product.__name__:
            continue
        if name == "conv_general_dilated":
            raise ValueError("a convolution; only products are counted")
        inside = [params[key] for key in _JAXPRS if key in params]
        if name in ("while", "cond"):
            inside = [params[key] for key in ("cond_jaxpr", "body_jaxpr") if key in params]
            inside += params.get("branches", ())
        flops = sum(_flops(getattr(each, "jaxpr", each)) for each in inside)
        if name in ("while", "cond") and flops:
            raise ValueError(f"matrix products inside of a {name}: how often they run is not known")
        total += flops * params.get("length", 1) if name == "scan" else flops
    return total
