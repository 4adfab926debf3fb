"""Names in a state dict as training programs write them: with a common prefix, and with heads of other tasks."""

import re
from collections.abc import Mapping
from typing import Any

from rmae_jax.interop.errors import InteropError, join_names

# A name that each ViT has once, in MAE's layout and in transformers', where it follows "vit." or nothing.
PROJECTION = r"(?:patch_embed\.proj|(?:vit\.)?embeddings\.patch_embeddings\.projection)\.weight"
ANCHOR = re.compile(rf"(?P<prefix>(?:.*?\.)??){PROJECTION}")
HEADS = ("head.", "head_drop.", "fc.", "fc_norm.", "classifier.", "pooler.")


def plain_names(state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Removes a prefix that the names of a ViT share ("module.", "model.backbone."), and heads of other tasks.

    Returns:
      The state dict with the names of its layout, and a note about each change.

    Raises:
      InteropError: the state dict holds several ViTs, or one that was fine-tuned without its last LayerNorm.
    """
    prefixes = sorted({match["prefix"] for name in state if (match := ANCHOR.fullmatch(str(name)))})
    if len(prefixes) > 1:
        raise InteropError(
            f"the weights of several models, whose names begin with {join_names([p or 'nothing' for p in prefixes])}; "
            "save the state dict of one of them"
        )
    prefix, notes = "".join(prefixes), []
    plain = {str(name).removeprefix(prefix): value for name, value in state.items()}
    if len(plain) < len(state):
        raise InteropError(f"names occur with and without the prefix {prefix!r}; save the state dict of one model")
    if prefix:
        notes.append(f"prefix {prefix!r} removed")
    heads = [name for name in plain if name.startswith(HEADS)]
    if "fc_norm.weight" in plain and "norm.weight" not in plain:
        raise InteropError(
            "the model was fine-tuned with global average pooling, which replaces the encoder's last LayerNorm (norm) "
            "by fc_norm; use pre-trained weights, or weights fine-tuned with the cls token"
        )
    if heads:
        notes.append(f"head of another task ignored: {join_names(heads, 3)}")
    return {name: value for name, value in plain.items() if name not in heads}, notes
