"""The region branch in NumPy float64, written from the paper's formulas: loops and slices, nothing shared with ours."""

import numpy as np
from scipy.special import erf, expit


def region_branch(params, latent, regions, permutation, visible, region_visible, patch, heads):
    """Queries, memory and logits of every patch, and the loss over the masked ones.

    Args:
      params: nested dicts of float64 arrays by the model's names.
      latent: (B, 1 + V, D).
      regions: (B, K, H, W).
      permutation: (B, L).
      visible, region_visible: number of visible patches of the image and of the regions.
    """
    batch, num_regions, height, width = regions.shape
    rows, columns = height // patch, width // patch
    num_patches = rows * columns
    maps = np.zeros((batch, num_regions, num_patches, patch * patch))
    for position in range(num_patches):
        i, j = divmod(position, columns)
        square = regions[:, :, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
        maps[:, :, position] = square.reshape(batch, num_regions, -1)

    # Neck: width 128, mask tokens in the holes, positions with a zero row for cls, blocks, LN.
    neck = params["neck"]
    embedded = linear(neck["embed"], latent)
    positions = sincos(embedded.shape[-1], rows, columns)
    memory = np.zeros((batch, 1 + num_patches, embedded.shape[-1]))
    for b in range(batch):
        memory[b] = neck["mask_token"][0]
        memory[b, 0] = embedded[b, 0]
        for place in range(visible):
            memory[b, 1 + permutation[b, place]] = embedded[b, 1 + place]
    memory[:, 1:] += positions
    for layer in layers(neck["blocks"]):
        memory = block(layer, memory, heads)
    memory = norm(neck["norm"], memory)

    # Region encoder: each map alone.
    encoder = params["region_encoder"]
    queries = np.zeros((batch, num_regions, positions.shape[-1]))
    for b in range(batch):
        seen = permutation[b, :region_visible]
        for k in range(num_regions):
            x = linear(encoder["patch_embed"], maps[b, k, seen] - 0.5) + positions[seen]
            x = x[None]
            for layer in layers(encoder["blocks"]):
                x = block(layer, x, heads)
            queries[b, k] = linear(encoder["proj"], norm(encoder["norm"], x[0].mean(axis=0)))

    # Region decoder.
    decoder, x = params["region_decoder"], queries
    for layer in layers(decoder.get("blocks")):
        x = x + attention(layer["attention"], norm(layer["norm1"], x), heads)
        x = x + cross_attention(layer["cross_attention"], norm(layer["norm2"], x), memory, heads)
        x = x + mlp(layer["mlp"], norm(layer["norm3"], x))
    last = decoder["expansion"]
    x = x + attention(last["attention"], norm(last["norm1"], x), heads)
    value = linear(last["value"], memory)[:, 1:]
    logits = np.zeros((batch, num_regions, num_patches, patch * patch))
    for k in range(num_regions):
        for position in range(num_patches):
            expanded = x[:, k] + value[:, position]
            expanded = mlp(last["mlp"], norm(last["norm3"], expanded))
            logits[:, k, position] = linear(decoder["head"], gelu(expanded))

    def loss(background_weight):
        total = []
        for b in range(batch):
            for position in permutation[b, region_visible:]:
                for k in range(num_regions):
                    y, p = maps[b, k, position], expit(logits[b, k, position])
                    losses = -(y * np.log(p) + background_weight * (1 - y) * np.log1p(-p))
                    total.append(losses.mean())
        return np.mean(total)

    return queries, memory, logits, loss


def layers(stacked):
    """The layers of a stack, one by one; none where there is no stack."""
    if stacked is None:
        return
    first = stacked["norm1"]["bias"]
    for i in range(len(first)):
        yield pick(stacked, i)


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
