"""Floating-point operations of a step's matrix products, counted in its jaxpr.

The compiler's own count cannot be used: it counts the body of a loop once, and programs for TPUs, where products become
convolutions, do not state how often a loop runs.
"""

import math

import jax
from jax.interpreters.partial_eval import dce_jaxpr

from rmae_jax.model.ops.linear import sum_by_product

_JAXPRS = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def product_flops(jaxpr: jax.extend.core.Jaxpr) -> int:
    """Returns the FLOPs of all matrix products of a jaxpr, in one call and on one device: 2 B M N K each.

    The body of a scan counts as often as it runs. Inside shard_map, shapes are those of one device; a step has all of
    its products there, or runs on a single device. Not counted are element-wise operations, sums that are written as
    products, and anything whose result is unused: hand-written derivatives compute those of all inputs, even images.

    Raises:
      ValueError: a product is inside a while or cond, where the number of its runs is unknown; or the jaxpr has a
        convolution.
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
            raise ValueError("cannot count a convolution, only matrix products")
        inside = [params[key] for key in _JAXPRS if key in params]
        if name in ("while", "cond"):
            inside = [params[key] for key in ("cond_jaxpr", "body_jaxpr") if key in params]
            inside += params.get("branches", ())
        flops = sum(_flops(getattr(each, "jaxpr", each)) for each in inside)
        if name in ("while", "cond") and flops:
            raise ValueError(f"matrix products inside of a {name}: the number of their runs is unknown")
        total += flops * params.get("length", 1) if name == "scan" else flops
    return total
