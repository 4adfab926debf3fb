"""The region branch in NumPy float64, written from the paper's formulas: loops and slices, nothing shared with ours."""

import numpy as np
from scipy.special import erf, expit


def patches_of(regions, patch):
    """(B, K, H, W) -> (B, K, L, P * P), patch by patch."""
    batch, num_regions, height, width = regions.shape
    rows, columns = height // patch, width // patch
    maps = np.zeros((batch, num_regions, rows * columns, patch * patch))
    for position in range(rows * columns):
        i, j = divmod(position, columns)
        square = regions[:, :, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
        maps[:, :, position] = square.reshape(batch, num_regions, -1)
    return maps


def dense_decoder(params, latent, permutation, grid, heads, hints=0):
    """Its own width, mask tokens in the holes, positions with a zero row for cls, blocks, LN: (B, 1 + L, D)."""
    embedded = linear(params["embed"], latent)
    memory = np.zeros((len(latent), 1 + permutation.shape[1], embedded.shape[-1]))
    for b in range(len(latent)):
        memory[b] = params["mask_token"][0]
        memory[b, 0] = embedded[b, 0]
        for place in range(latent.shape[1] - 1):
            memory[b, 1 + permutation[b, place]] = embedded[b, 1 + place]
    memory[:, 1:] += sincos(embedded.shape[-1], *grid) + hints
    for layer in layers(params["blocks"]):
        memory = block(layer, memory, heads)
    return norm(params["norm"], memory)


def encode(params, patches, seen, grid, heads):
    """The visible patches (L, pixels) of one map, or of several behind each other, as tokens (V, D)."""
    x = linear(params["patch_embed"], patches[seen] - 0.5)
    x = (x + sincos(x.shape[-1], *grid)[seen])[None]
    for layer in layers(params["blocks"]):
        x = block(layer, x, heads)
    return x[0]


def region_hints(params, maps, permutation, visible, grid, heads, sets):
    """What the pixel decoder's patches are told of the regions: (B, L, D), zero where no region is visible."""
    feed = params["region_feed"]
    hints = np.zeros((len(maps), maps.shape[2], len(feed["proj"]["bias"])))
    for b in range(len(maps)):
        seen = permutation[b, :visible]
        behind = [np.concatenate([maps[b, k] for k in together], axis=-1) for together in sets]
        tokens = [encode(params["region_encoder"], patches, seen, grid, heads) for patches in behind]
        hints[b, seen] = linear(feed["proj"], norm(feed["norm"], sum(tokens) / len(tokens)))
    return hints


def length(params, maps, memory, permutation, visible, grid, heads):
    """Regions as queries: (B, K, D) queries and (B, K, L, P * P) predictions."""
    batch, num_regions, num_patches, pixels = maps.shape
    decoder = params["region_decoder"]
    queries = np.zeros((batch, num_regions, memory.shape[-1]))
    for b in range(batch):
        for k in range(num_regions):
            tokens = encode(params["region_encoder"], maps[b, k], permutation[b, :visible], grid, heads)
            queries[b, k] = linear(decoder["query_proj"], norm(decoder["query_norm"], tokens.mean(axis=0)))
    x = queries
    for layer in stacked(decoder.get("blocks")):
        x = x + attention(layer["attention"], norm(layer["norm1"], x), heads)
        x = x + cross_attention(layer["cross_attention"], norm(layer["norm2"], x), memory, heads)
        x = x + mlp(layer["mlp"], norm(layer["norm3"], x))
    last = decoder["expansion"]
    x = x + attention(last["attention"], norm(last["norm1"], x), heads)
    value = linear(last["value"], memory)[:, 1:]
    predicted = np.zeros((batch, num_regions, num_patches, pixels))
    for k in range(num_regions):
        for position in range(num_patches):
            expanded = x[:, k] + value[:, position]
            expanded = mlp(last["mlp"], norm(last["norm3"], expanded))
            predicted[:, k, position] = linear(decoder["head"], gelu(expanded))
    return queries, predicted


def dense(params, maps, memory, permutation, visible, grid, heads, sets):
    """Regions as maps, decoded like images; `sets` are the regions that lie behind each other: (B, K, L, P * P)."""
    decoder, predicted = params["region_decoder"], np.zeros(maps.shape)
    for b in range(len(maps)):
        seen = permutation[b, :visible]
        for together in sets:
            behind = np.concatenate([maps[b, k] for k in together], axis=-1)
            x = np.tile(decoder["mask_token"][0], (maps.shape[2], 1))
            x[seen] = encode(params["region_encoder"], behind, seen, grid, heads)
            x = (x + memory[b, 1:])[None]
            for layer in layers(decoder["blocks"]):
                x = block(layer, x, heads)
            out = linear(decoder["head"], norm(decoder["norm"], x[0]))
            for place, k in enumerate(together):
                predicted[b, k] = out[:, place * maps.shape[3] : (place + 1) * maps.shape[3]]
    return predicted


def loss(maps, predicted, permutation, visible, kind, background_weight):
    """The mean over pixels, regions and masked patches."""
    total = []
    for b in range(len(maps)):
        for position in permutation[b, visible:]:
            for k in range(maps.shape[1]):
                y, z = maps[b, k, position], predicted[b, k, position]
                if kind == "cross_entropy":
                    p = expit(z)
                    losses = -(y * np.log(p) + background_weight * (1 - y) * np.log1p(-p))
                else:
                    losses = np.where(y == 1, 1, background_weight) * (y - z) ** 2
                total.append(losses.mean())
    return np.mean(total)


def layers(blocks):
    """The blocks of a row, one by one."""
    yield from stacked(blocks.get("body"))
    yield blocks["last"]


def stacked(blocks):
    """The blocks of a stack, one by one; none where there is no stack."""
    for i in range(0 if blocks is None else len(blocks["norm1"]["bias"])):
        yield pick(blocks, i)


def pick(tree, i):
    return {k: pick(v, i) for k, v in tree.items()} if isinstance(tree, dict) else tree[i]


def linear(p, x):
    return x @ p["kernel"] + p["bias"]


def norm(p, x):
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * p["scale"] + p["bias"]


def gelu(x):
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def mlp(p, x):
    return linear(p["fc2"], gelu(linear(p["fc1"], x)))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attend(q, k, v, heads):
    out, size = np.zeros_like(q), q.shape[-1] // heads
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        weights = softmax(q[..., part] @ k[..., part].swapaxes(-1, -2) / np.sqrt(size))
        out[..., part] = weights @ v[..., part]
    return out


def attention(p, x, heads):
    qkv, size = linear(p["qkv"], x), x.shape[-1]
    return linear(p["proj"], attend(qkv[..., :size], qkv[..., size : 2 * size], qkv[..., 2 * size :], heads))


def cross_attention(p, x, memory, heads):
    kv, size = linear(p["kv"], memory), x.shape[-1]
    return linear(p["proj"], attend(linear(p["q"], x), kv[..., :size], kv[..., size:], heads))


def block(p, x, heads):
    x = x + attention(p["attention"], norm(p["norm1"], x), heads)
    return x + mlp(p["mlp"], norm(p["norm2"], x))


def sincos(width, rows, columns):
    """MAE's table: half of the channels for the column, half for the row, each sines then cosines."""
    table = np.zeros((rows * columns, width))
    quarter = width // 4
    for position in range(rows * columns):
        row, column = divmod(position, columns)
        for i in range(quarter):
            rate = 10000 ** (-i / quarter)
            table[position, i] = np.sin(column * rate)
            table[position, quarter + i] = np.cos(column * rate)
            table[position, 2 * quarter + i] = np.sin(row * rate)
            table[position, 3 * quarter + i] = np.cos(row * rate)
    return table
