"""What the compiler counts, against the products of a block."""

from benchmarks.flops import flops, model_config


def test_every_block_counts():
    sizes = {"objective": "mae", "image_size": 64, "width": 64, "num_heads": 2}
    sizes |= {"decoder_depth": 1, "decoder_width": 32, "decoder_num_heads": 2}
    shallow, deep = (flops(model_config(depth=depth, **sizes), 2, backward=False) for depth in (3, 5))
    tokens = 1 + 16 // 4
    products = 2 * (12 * tokens * 64**2 + 2 * tokens**2 * 64)
    assert products < (deep - shallow) / 2 < 1.1 * products
