"""The position tables that PyTorch's layouts store, and that this code computes instead."""

import math
from collections.abc import Mapping
from fractions import Fraction

import ml_collections
import numpy as np
from jaxtyping import Float

from rmae_jax.interop.errors import InteropError
from rmae_jax.interop.resized_tables import resized_from
from rmae_jax.model.positions import sincos_positions

Table = Float[np.ndarray, "1 patches_and_cls width"]


def stored_table(width: int, side: int, scale: float) -> Table:
    """Computes a square grid's table as PyTorch's layouts store it: a zero row for cls, then the patches."""
    return np.pad(sincos_positions(width, (side, side), scale), ((1, 0), (0, 0)))[None]


def scale_of_tables(tables: Mapping[str, Table], config: ml_collections.ConfigDict) -> tuple[float, str]:
    """Checks stored tables by value; returns the position_scale with which a model uses them, and a note or "".

    A table must be MAE's for its grid, or an interpolation of such a table. At the returned scale, the model's grid
    spans the table's positions evenly, which interpolates it exactly. A config's scale other than 1 must equal it. Of
    MAE's table for another grid, resized by other programs, the note says that it is computed anew.

    Args:
      tables: the tables by name, of any floating-point type.
      config: `config.model` of a recipe.

    Raises:
      InteropError: a table is not MAE's sine-cosine table, tables have different grids, or the config's scale is not
        that of the tables.
    """
    side = config.image_size // config.patch_size
    sides = {name: _side(name, table) for name, table in tables.items()}
    if len(set(sides.values())) > 1:
        raise InteropError(f"the position tables have different grids: {sides}")
    (found,) = set(sides.values())
    first = next(iter(tables.values()))
    likely = [config.position_scale if found == side else 1.0, 1.0, *_recovered_scales(first)]
    scale = next((scale for scale in likely if _equals(first, stored_table(first.shape[2], found, scale))), None)
    originals = {resized_from(table) for table in tables.values()} if scale is None else {None}
    if len(originals) == 1 and None not in originals:
        (original,) = originals
        scale = original / found
        note = f"position tables, resized from {original} x {original} to {found} x {found} patches, are computed anew"
    else:
        scale, note = likely[0] if scale is None else scale, ""
        for name, table in tables.items():
            _check(name, table, stored_table(table.shape[2], found, scale))
    total = scale if found == side else scale * found / side
    if config.position_scale != 1 and not math.isclose(config.position_scale, total):
        raise InteropError(
            f"model.position_scale is {config.position_scale:g}, but the weights' position tables imply {total:g}; "
            "leave it at its default, 1"
        )
    return total, note


def _recovered_scales(table: Table) -> list[float]:
    """Recovers a table's scale, the distance of neighbouring patches, and returns candidates for it.

    The distance is the angle between two columns, from their sine and cosine at frequency 1. An interpolated table
    spans side * scale patches, a whole number: rounding to it makes the first candidate exact, in half precision too.
    The second candidate is for a scale that was set by hand, where side * scale need not be a whole number.
    """
    side = math.isqrt(table.shape[1] - 1)
    if side < 2 or not np.isfinite(table).all():
        return []
    sines, cosines = (table[0, 1:3, channel].astype(np.float64) for channel in (0, table.shape[2] // 4))
    angle = float((np.arctan2(sines[1], cosines[1]) - np.arctan2(sines[0], cosines[0])) % (2 * np.pi))
    return [round(angle * side) / side, float(Fraction(angle).limit_denominator(1000))]


def _side(name: str, table: np.ndarray) -> int:
    side = math.isqrt(max(0, table.shape[1] - 1)) if table.ndim == 3 else 0
    if side < 1 or table.shape[0] != 1 or side**2 + 1 != table.shape[1] or table.shape[2] % 4:
        raise InteropError(f"{name} is {table.shape}, which is no position table of cls and a square grid of patches")
    return side


def _check(name: str, table: Table, expected: Table) -> None:
    if _equals(table, expected):
        return
    if _equals(np.roll(table, table.shape[2] // 2, axis=2), expected):
        raise InteropError(
            f"{name} encodes rows in its first half and columns in its second; MAE and this code use the opposite "
            "order, so these weights cannot be used"
        )
    if not table.any():
        raise InteropError(f"{name} is all zeros, as in models initialised by transformers 5, and cannot be used")
    worst = np.abs(table.astype(np.float32) - expected).max()
    raise InteropError(
        f"{name} is not MAE's fixed sine-cosine table (the largest difference is {worst:.3g}); "
        "models with learned position tables cannot be used"
    )


def _equals(table: Table, expected: Table) -> bool:
    # Half-precision files store the tables in half precision too.
    tolerance = 1e-4 if table.dtype in (np.float32, np.float64) else 5e-3
    return np.allclose(table.astype(np.float32), expected, rtol=0, atol=tolerance)
