"""What data_prep.images makes of image files, checked against Pillow and hand-computed pixels."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageCms

from data_prep import images
from data_prep.dataset import records

LARGE = 1 << 26


@pytest.fixture(scope="module")
def photograph():
    """A smooth colour picture whose four quarters differ."""
    y, x = np.mgrid[:48, :64]
    return np.stack((4 * x, 5 * y, 255 - 3 * x), -1).clip(0, 255).astype(np.uint8)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pillow_rgb(jpeg):
    with Image.open(io.BytesIO(jpeg)) as image:
        return np.asarray(image.convert("RGB"))


def assert_close(pixels, expected, tolerance=6):
    """Equal up to JPEG's loss on a smooth picture."""
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30, "subsampling": 0}])
def test_plain_jpeg_keeps_its_bytes(photograph, options):
    data = encoded(Image.fromarray(photograph), "JPEG", **options)
    jpeg, pixels = images.load(data, LARGE)
    assert jpeg == data
    np.testing.assert_array_equal(pixels, pillow_rgb(data))


def test_gray_jpeg_keeps_its_bytes(photograph):
    data = encoded(Image.fromarray(photograph[..., 0]), "JPEG")
    jpeg, pixels = images.load(data, LARGE)
    assert jpeg == data
    np.testing.assert_array_equal(pixels, pillow_rgb(data))


def test_jpeg_with_a_second_picture_behind_it_keeps_its_bytes(photograph):
    first, second = Image.fromarray(photograph), Image.fromarray(photograph[:8, :8])
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    jpeg, pixels = images.load(data, LARGE)
    assert jpeg == data
    np.testing.assert_array_equal(pixels, pillow_rgb(data))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF", "PPM"])
def test_other_formats_are_encoded_anew(photograph, kind):
    jpeg, pixels = images.load(encoded(Image.fromarray(photograph), kind), LARGE)
    np.testing.assert_array_equal(pixels, pillow_rgb(jpeg))
    assert_close(pixels, photograph, 12)
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.format == "JPEG"
        # The first entries of the tables of quality 95 and of no other whole quality.
        reference = Image.open(io.BytesIO(encoded(Image.fromarray(photograph), "JPEG", quality=95)))
        assert image.quantization == reference.quantization


def test_gray_stays_gray(photograph):
    jpeg, pixels = images.load(encoded(Image.fromarray(photograph[..., 0]), "PNG"), LARGE)
    assert Image.open(io.BytesIO(jpeg)).mode == "L"
    assert_close(pixels, np.repeat(photograph[..., :1], 3, -1))


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    _, pixels = images.load(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), LARGE)
    assert_close(pixels, np.broadcast_to(np.uint8([255, 0, 0]), (32, 32, 3)))


def test_palette_gives_its_colours():
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, 40, 200, 90])
    _, pixels = images.load(encoded(image, "PNG"), LARGE)
    assert_close(pixels, np.broadcast_to(np.uint8([40, 200, 90]), (16, 16, 3)))


@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (51, 224), (255, 100)])
def test_transparency_is_laid_on_white(alpha, expected):
    # 255 * (1 - 51/255) + 100 * 51/255 = 224
    image = Image.new("RGBA", (16, 16), (100, 100, 100, alpha))
    _, pixels = images.load(encoded(image, "PNG"), LARGE)
    assert_close(pixels, np.full((16, 16, 3), expected), 1)


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_transparent_colour_becomes_white(mode):
    image = Image.new(mode, (16, 16), 0)
    if mode == "P":
        image.putpalette([10, 20, 30])
    _, pixels = images.load(encoded(image, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0), LARGE)
    assert_close(pixels, np.full((16, 16, 3), 255))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_gray_is_scaled_and_not_clipped(kind):
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16) * np.ones((64, 1), np.uint16)
    jpeg, pixels = images.load(encoded(Image.fromarray(ramp), kind), LARGE)
    assert_close(pixels, np.repeat((ramp / 257).round()[..., None], 3, -1), 3)
    assert Image.open(io.BytesIO(jpeg)).mode == "L"


def test_portable_graymap_of_twelve_bits_is_scaled():
    data = b"P5 32 16 4095\n" + struct.pack(">512H", *([0] * 256 + [4095] * 256))
    _, pixels = images.load(data, LARGE)
    assert_close(pixels, np.repeat([0, 255], 8)[:, None, None] * np.ones((16, 32, 3)), 1)


def test_cmyk_becomes_rgb(photograph):
    source = Image.fromarray(photograph).convert("CMYK")
    data = encoded(source, "JPEG", quality=95)
    jpeg, pixels = images.load(data, LARGE)
    assert jpeg != data
    assert Image.open(io.BytesIO(jpeg)).mode == "RGB"
    assert_close(pixels, photograph, 12)


def test_one_bit_becomes_gray():
    _, pixels = images.load(encoded(Image.new("1", (16, 16), 1), "PNG"), LARGE)
    assert_close(pixels, np.full((16, 16, 3), 255), 1)


# What the stored array has to go through to stand upright, by EXIF's definition of each value.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_turned_upright(photograph, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(photograph), kind, exif=exif, quality=95)
    jpeg, pixels = images.load(data, LARGE)
    assert_close(pixels, UPRIGHT[orientation](photograph), 14)
    assert Image.open(io.BytesIO(jpeg)).getexif().get(0x0112, 1) == 1
    assert (jpeg == data) == (kind == "JPEG" and orientation == 1)


def test_content_decides_and_not_the_name(tmp_path, photograph):
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encoded(Image.fromarray(photograph), "PNG"))
    assert images.find(tmp_path).names == (path.name,)
    _, pixels = images.load(path.read_bytes(), LARGE)
    assert_close(pixels, photograph, 12)


def float_tiff():
    return encoded(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF")


def integer_tiff():
    return encoded(Image.fromarray(np.ones((8, 8), np.int32)), "TIFF")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"GIF", "not an image"),
        (b"this is text " * 100, "not an image"),
        (float_tiff(), "floating-point"),
        (integer_tiff(), "32-bit integer"),
    ],
)
def test_bad_images(data, reason):
    with pytest.raises(images.BadImage, match=reason):
        images.load(data, LARGE)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9])
def test_truncated_files_are_bad(photograph, kind, kept):
    noise = np.random.default_rng(0).integers(0, 256, photograph.shape, np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(images.BadImage) as caught:
        images.load(data[: int(len(data) * kept)], LARGE)
    assert "\n" not in str(caught.value)


def test_a_jpeg_without_its_last_bytes_is_bad(photograph):
    data = encoded(Image.fromarray(photograph), "JPEG")
    with pytest.raises(images.BadImage, match="truncated or corrupt"):
        images.load(data[:-20], LARGE)


def test_random_damage_gives_an_image_or_a_reason(photograph):
    """Never another exception, and never a warning (which the test settings turn into an error)."""
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"):
        data = np.frombuffer(encoded(Image.fromarray(photograph), kind), np.uint8)
        for _ in range(60):
            damaged = data.copy()
            damaged[rng.integers(0, min(len(data), 400), 3)] = rng.integers(0, 256, 3)
            try:
                _, pixels = images.load(damaged.tobytes(), 1 << 20)
            except images.BadImage as error:
                assert str(error)
            else:
                assert pixels.dtype == np.uint8 and pixels.ndim == 3


def test_too_many_pixels_are_refused_before_decoding(photograph):
    data = encoded(Image.fromarray(photograph), "PNG")
    images.load(data, 64 * 48)
    with pytest.raises(images.BadImage, match="64x48 is more than 3071 pixels"):
        images.load(data, 64 * 48 - 1)


def png_header(width, height):
    """The beginning of a PNG that claims this size."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\x64IDAT"
    )


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_decompression_bombs_are_refused_without_a_warning(side):
    # 10,000 squared is where Pillow warns, 60,000 squared where it refuses.
    with warnings.catch_warnings(record=True) as caught, pytest.raises(images.BadImage, match="more than"):
        warnings.simplefilter("always")
        images.load(png_header(side, side) + b"\0" * 100, LARGE)
    assert not caught


def test_a_colour_profile_changes_nothing(photograph):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(Image.fromarray(photograph), "JPEG", icc_profile=profile)
    assert images.load(data, LARGE)[0] == data


def test_files_are_found_by_suffix_and_sorted(tmp_path):
    taken = [
        "B.JPG",
        "a/1.jpeg",
        "a/b/2.png",
        "a.webp",
        "z.bmp",
        "z.tif",
        "z.tiff",
        "z.gif",
        "z.ppm",
        "z.jfif",
        "z.JPE",
    ]
    hidden = ["._B.JPG", "a/.ipynb_checkpoints/1.png", ".thumbs/b/2.png", ".DS_Store"]
    for name in [*taken, *hidden, "notes.txt", "A.TXT", "jpg", "a/x.npy"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = images.find(tmp_path)
    assert found.names == tuple(sorted(taken))
    assert found.others == {"hidden": 4, ".txt": 2, "without suffix": 1, ".npy": 1}


def with_jfif_revision(jpeg, revision):
    at = jpeg.index(b"JFIF\0") + 5
    return jpeg[:at] + revision + jpeg[at + 2 :]


def with_spectral_end(jpeg, value):
    """Changes Se of the scan's header, which decoders of sequential JPEGs ignore."""
    at = jpeg.index(b"\xff\xda")
    at += int.from_bytes(jpeg[at + 2 : at + 4])
    return jpeg[:at] + bytes([value]) + jpeg[at + 1 :]


@pytest.mark.parametrize(
    "oddity",
    [
        lambda jpeg: with_jfif_revision(jpeg, b"\0\0"),
        lambda jpeg: with_jfif_revision(jpeg, b"\2\1"),
        lambda jpeg: jpeg[:-2] + bytes(500) + jpeg[-2:],
        lambda jpeg: jpeg[:-2] + b"\xff" * 21 + jpeg[-2:],
        lambda jpeg: jpeg[:-2] + b"0123456789ab" + jpeg[-2:],
        lambda jpeg: with_jfif_revision(jpeg[:-2] + bytes(50) + jpeg[-2:], b"\0\0"),
        lambda jpeg: jpeg + b"trailing",
    ],
)
def test_oddities_of_jpegs_that_viewers_ignore_change_no_pixel(photograph, oddity):
    jpeg = encoded(Image.fromarray(photograph), "JPEG", quality=90)
    stored, pixels = images.load(oddity(jpeg), LARGE)
    np.testing.assert_array_equal(pixels, pillow_rgb(jpeg))
    np.testing.assert_array_equal(records.decode_image(stored), pixels)


def test_a_header_that_decoders_ignore_is_written_anew(photograph):
    jpeg = encoded(Image.fromarray(photograph), "JPEG", quality=90)
    odd = with_spectral_end(jpeg, 0)
    with pytest.raises(ValueError, match="Invalid SOS parameters"):
        simplejpeg.decode_jpeg(odd)
    stored, pixels = images.load(odd, LARGE)
    assert np.abs(pixels.astype(int) - pillow_rgb(jpeg)).max() < 10
    np.testing.assert_array_equal(records.decode_image(stored), pixels)


def test_a_damaged_scan_is_still_refused(photograph):
    """Also if it ends early, which libjpeg reports as extra bytes before the end, and with an odd header."""
    jpeg = encoded(Image.fromarray(photograph), "JPEG", quality=90)
    rng, refused = np.random.default_rng(0), 0
    for start in rng.integers(len(jpeg) // 4, len(jpeg) // 2, 20):
        damaged = jpeg[:start] + rng.bytes(40) + jpeg[start + 40 :]
        for data in (damaged, with_jfif_revision(damaged, b"\0\0")):
            try:
                simplejpeg.decode_jpeg(damaged)
            except ValueError:
                refused += 1
                with pytest.raises(images.BadImage):
                    images.load(data, LARGE)
    assert refused > 10


@pytest.mark.parametrize("suffix", [".avif", ".jp2", ".heic"])
def test_formats_of_cameras_and_archives_are_read(photograph, suffix):
    """Compared with the pixels before they were compressed twice."""
    assert suffix in images.SUFFIXES
    data = encoded(
        Image.fromarray(photograph), "HEIF" if suffix == ".heic" else suffix[1:].upper().replace("JP2", "JPEG2000")
    )
    _, pixels = images.load(data, LARGE)
    assert np.abs(pixels.astype(int) - photograph).mean() < 12
