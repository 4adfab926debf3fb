"""A folder with every kind of image that people have: what a whole job makes of each, as docs/data.md says."""

import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage.segmentation import felzenszwalb

from data_prep import job as jobs
from data_prep.dataset.records import decode_image
from data_prep.felzenszwalb import layers
from rmae_jax.data import TFRecordSource

WIDTH, HEIGHT = 64, 48
MAX_PIXELS = 2_000_000


def picture() -> Image.Image:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return Image.fromarray(np.stack((3 * x, 4 * y, 200 - 3 * x), -1).clip(0, 255).astype(np.uint8))


def data(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png16(color_type: int, channels: int) -> bytes:
    """A 16-bit PNG, which Pillow reads and does not write."""

    def chunk(name, content):
        body = name + content
        return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = WIDTH.to_bytes(4, "big") + HEIGHT.to_bytes(4, "big") + bytes((16, color_type, 0, 0, 0))
    ramp = np.linspace(0, 65535, WIDTH).astype(">u2")
    rows = np.broadcast_to(ramp[None, :, None], (HEIGHT, WIDTH, channels))
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def files() -> dict[str, bytes]:
    rgb = picture()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return {
        "animated.gif": data(rgb, "GIF", save_all=True, append_images=[noise]),
        "animated.webp": data(rgb, "WEBP", save_all=True, append_images=[noise]),
        "alpha.png": data(rgb.convert("RGBA"), "PNG"),
        "bomb.png": data(Image.new("L", (2000, 1001)), "PNG"),
        "cmyk.jpg": data(rgb.convert("CMYK"), "JPEG"),
        "cmyk.tif": data(rgb.convert("CMYK"), "TIFF"),
        "cut.jpg": data(noise, "JPEG")[:-200],
        "cut.png": data(noise, "PNG")[:-200],
        "empty.jpg": b"",
        "float.tif": data(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"),
        "gray.jpg": data(rgb.convert("L"), "JPEG"),
        "gray.png": data(rgb.convert("L"), "PNG"),
        "gray16.png": png16(0, 1),
        "html.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "one.png": data(Image.new("RGB", (1, 1), (9, 90, 200)), "PNG"),
        "onebit.png": data(rgb.convert("1"), "PNG"),
        "palette.png": data(rgb.convert("P"), "PNG"),
        "plain.jpg": data(rgb, "JPEG"),
        "png_inside.jpg": data(rgb, "PNG"),
        "profile.jpg": data(rgb, "JPEG", icc_profile=profile),
        "progressive.jpg": data(rgb, "JPEG", progressive=True),
        "rgb16.png": png16(2, 3),
        "rotated.jpg": data(rgb, "JPEG", exif=turned(6)),
        "rotated.png": data(rgb, "PNG", exif=turned(8)),
        "too_wide.png": data(Image.new("L", (70_000, 2)), "PNG"),
        "truncated_header.jpg": data(rgb, "JPEG")[:30],
        "wide.png": data(rgb.resize((20_000, 20)), "PNG"),
        "ycck.jpg": data(rgb.convert("CMYK"), "JPEG", quality=95),
    }


KEPT = {"gray.jpg", "plain.jpg", "profile.jpg", "progressive.jpg"}  # byte by byte
REASONS = {
    "bomb.png": "2000x1001 is more than 2000000 pixels",
    "cut.jpg": "truncated or corrupt",
    "cut.png": "truncated or corrupt",
    "empty.jpg": "empty file",
    "float.tif": "floating-point pixels: the values of black and white are unknown",
    "html.jpg": "not an image, or of an unknown format",
    "too_wide.png": "70000x2: a JPEG has at most 65500 pixels a side",
    "truncated_header.jpg": "truncated or corrupt",
}
SIZES = {"one.png": (1, 1), "rotated.jpg": (HEIGHT, WIDTH), "rotated.png": (HEIGHT, WIDTH), "wide.png": (20_000, 20)}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """(folder, {image_id: record}, {image_id: reason})."""
    root = tmp_path_factory.mktemp("kinds")
    (root / "images").mkdir()
    for name, content in files().items():
        (root / "images" / name).write_bytes(content)
    jobs.prepare(root / "images", root / "out", scales=(50,), shards=1, workers=1, max_bad=0.5, max_pixels=MAX_PIXELS)
    source = TFRecordSource(root / "out")
    lines = (root / "out" / "regions-train.skipped.jsonl").read_text().splitlines()
    skipped = {entry["image_id"]: entry["reason"] for entry in map(json.loads, lines)}
    return root / "images", {record.image_id: record for record in map(source.__getitem__, range(len(source)))}, skipped


def test_no_image_is_lost(prepared):
    _, made, skipped = prepared
    assert sorted([*made, *skipped]) == sorted(files())
    assert set(skipped) == set(REASONS)


@pytest.mark.parametrize("name", REASONS)
def test_what_is_left_out_has_its_reason(prepared, name):
    assert prepared[2][name].startswith(REASONS[name])


@pytest.mark.parametrize("name", sorted(set(files()) - set(REASONS)))
def test_what_is_kept_shows_the_picture_and_has_its_regions(prepared, name):
    folder, made, _ = prepared
    record, source = made[name], (folder / name).read_bytes()
    assert (record.image == source) == (name in KEPT)
    with Image.open(io.BytesIO(record.image)) as image:
        assert image.format == "JPEG" and image.size == SIZES.get(name, (WIDTH, HEIGHT))
        stored = np.asarray(image.convert("RGB"))
    pixels = decode_image(record.image)
    np.testing.assert_array_equal(pixels, stored)
    # The regions are those of the pixels that training decodes. Ramps have many equal edges, whose order in skimage
    # depends on the CPU.
    if name in ("gray16.png", "rgb16.png"):
        np.testing.assert_array_equal(record.regions, layers(pixels, (50,)))
    elif min(pixels.shape[:2]) > 1:
        np.testing.assert_array_equal(record.regions[0], felzenszwalb(pixels, scale=50, sigma=0.8, min_size=50) + 1)
    else:
        assert record.regions.tolist() == [[[1]]]
    shown = expected(name)
    if shown is not None:
        assert np.abs(pixels.astype(int) - shown).mean() < 8


def expected(name: str) -> np.ndarray | None:
    """What a person would say the picture shows, upright; None where that is not the usual picture."""
    rgb = np.asarray(picture()).astype(int)
    if name.startswith("rotated"):
        return np.rot90(rgb, -1 if name.endswith("jpg") else 1)
    if name.endswith("16.png"):
        return np.broadcast_to(np.linspace(0, 255, WIDTH)[None, :, None], (HEIGHT, WIDTH, 3))
    if name.startswith("gray"):
        return np.repeat(rgb @ (0.299, 0.587, 0.114), 3).reshape(rgb.shape)
    if name in ("one.png", "wide.png", "onebit.png", "palette.png", "animated.gif"):
        return None  # dithered, or of another size
    return rgb
