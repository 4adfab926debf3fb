"""The named sizes of ViT: Ti, S, B, L, H."""

ENCODERS = {
    "Ti": {"width": 192, "depth": 12, "num_heads": 3, "patch_size": 16},
    "S": {"width": 384, "depth": 12, "num_heads": 6, "patch_size": 16},
    "B": {"width": 768, "depth": 12, "num_heads": 12, "patch_size": 16},
    "L": {"width": 1024, "depth": 24, "num_heads": 16, "patch_size": 16},
    "H": {"width": 1280, "depth": 32, "num_heads": 16, "patch_size": 14},
}


def encoder(size: str) -> dict[str, int]:
    """Returns width, depth, heads and patch size of a ViT (Dosovitskiy et al. 2021, table 1; DeiT for Ti and S).

    Raises:
      ValueError: `size` is not one of Ti, S, B, L, H.
    """
    if size not in ENCODERS:
        raise ValueError(f"unknown ViT size {size!r}; choose one of {', '.join(ENCODERS)}")
    return dict(ENCODERS[size])
