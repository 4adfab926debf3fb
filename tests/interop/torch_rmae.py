"""R-MAE in PyTorch with timm's blocks, written from the paper: modules named as in the state dict of the release.

Plain and slow: every patch is embedded and decoded, and nothing is factored. With `regions=False` it is MAE.
"""

from functools import partial

import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Attention, Block, Mlp
from torch import nn
from torch.nn import functional as F

norm_layer = partial(nn.LayerNorm, eps=1e-6)


def blocks(width: int, heads: int, depth: int) -> nn.ModuleList:
    return nn.ModuleList(Block(width, heads, qkv_bias=True, norm_layer=norm_layer) for _ in range(depth))


class Expansion(nn.Module):
    """The last region decoder block: the query is added to the value of every position."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm3 = norm_layer(width), norm_layer(width)
        self.attn = Attention(width, heads, qkv_bias=True)
        self.proj = nn.Linear(width, width)
        self.mlp = Mlp(width, width)

    def forward(self, queries, memory):
        queries = queries + self.attn(self.norm1(queries))
        return self.mlp(self.norm3(queries[:, :, None] + self.proj(memory)[:, None]))


class TorchRMAE(nn.Module):
    def __init__(self, config, regions: bool):
        super().__init__()
        c, self.patch = config, config.patch_size
        tokens = (c.image_size // c.patch_size) ** 2 + 1

        def table(width: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(1, tokens, width), requires_grad=False)

        self.patch_embed = PatchEmbed(c.image_size, c.patch_size, 3, c.width)
        self.cls_token, self.pos_embed = nn.Parameter(torch.zeros(1, 1, c.width)), table(c.width)
        self.blocks, self.norm = blocks(c.width, c.num_heads, c.depth), norm_layer(c.width)
        width = c.decoder_width
        self.decoder_embed, self.decoder_pos_embed = nn.Linear(c.width, width), table(width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_blocks = blocks(width, c.decoder_num_heads, c.decoder_depth)
        self.decoder_norm, self.decoder_pred = norm_layer(width), nn.Linear(width, 3 * c.patch_size**2)
        if regions:
            width, heads = c.region_width, c.region_num_heads
            self.region_cross_embed, self.region_cross_pos_embed = nn.Linear(c.width, width), table(width)
            self.region_cross_mask_token = nn.Parameter(torch.zeros(1, 1, width))
            self.region_cross_blocks = blocks(width, heads, c.neck_depth)
            self.region_dec_norm, self.region_pos_embed = norm_layer(width), table(width)
            self.region_patch_embed = PatchEmbed(c.image_size, c.patch_size, 1, width)
            self.region_enc_blocks = blocks(width, heads, c.region_encoder_depth)
            self.region_proj = nn.Sequential(norm_layer(width), nn.Linear(width, width))
            self.region_dec_blocks = nn.ModuleList([Expansion(width, heads)])
            self.region_pred = nn.Sequential(nn.GELU(), nn.Linear(width, c.patch_size**2))

    def patches(self, maps):
        """(B, C, H, W) -> (B, L, P * P * C)."""
        folded = F.unfold(maps, self.patch, stride=self.patch).transpose(1, 2)  # channels first
        return folded.reshape(*folded.shape[:2], maps.shape[1], -1).transpose(2, 3).flatten(2)

    def dense(self, latent, permutation, embed, mask_token, positions, layers, norm):
        """A token for every patch, cls first, in the image's order."""
        x = embed(latent)
        holes = mask_token.expand(len(x), permutation.shape[1] + 1 - x.shape[1], -1)
        patches = torch.cat([x[:, 1:], holes], dim=1)
        restored = torch.gather(patches, 1, permutation.argsort(1)[..., None].expand_as(patches))
        x = torch.cat([x[:, :1], restored], dim=1) + positions
        for layer in layers:
            x = layer(x)
        return norm(x)

    def pixels(self, images, permutation, visible):
        """The encoder's output and the loss."""
        x = self.patch_embed(images) + self.pos_embed[:, 1:]
        x = torch.stack([row[ids] for row, ids in zip(x, permutation[:, :visible], strict=True)])
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        latent = self.norm(x)
        decoded = self.dense(
            latent,
            permutation,
            self.decoder_embed,
            self.mask_token,
            self.decoder_pos_embed,
            self.decoder_blocks,
            self.decoder_norm,
        )
        target = self.patches(images)
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        error = (self.decoder_pred(decoded[:, 1:]) - target).square().mean(-1)
        return latent, torch.gather(error, 1, permutation[:, visible:]).mean()

    def regions(self, latent, regions, permutation, visible):
        """The loss of the region branch."""
        memory = self.dense(
            latent,
            permutation,
            self.region_cross_embed,
            self.region_cross_mask_token,
            self.region_cross_pos_embed,
            self.region_cross_blocks,
            self.region_dec_norm,
        )
        num_regions = regions.shape[1]
        x = self.region_patch_embed(regions.flatten(0, 1)[:, None] - 0.5) + self.region_pos_embed[:, 1:]
        seen = permutation[:, :visible].repeat_interleave(num_regions, 0)
        x = torch.stack([row[ids] for row, ids in zip(x, seen, strict=True)])
        for block in self.region_enc_blocks:
            x = block(x)
        queries = self.region_proj(x.mean(1)).unflatten(0, (-1, num_regions))
        logits = self.region_pred(self.region_dec_blocks[0](queries, memory))[:, :, 1:]
        target = self.patches(regions.flatten(0, 1)[:, None]).unflatten(0, (-1, num_regions))
        error = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 3))
        return torch.gather(error, 1, permutation[:, visible:]).mean()
