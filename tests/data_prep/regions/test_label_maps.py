"""Regions of label maps in PNG and NPY files, against the arrays that they were made from."""

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from oriented_photographs import UPRIGHT, item, photograph
from PIL import Image

from data_prep.errors import PrepError
from data_prep.images import BadImage
from data_prep.regions.label_maps import LabelMapFolder

SHAPE = (40, 60)


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def raw_png(depth, colour_type, rows, shape=SHAPE):
    """A PNG put together by its definition; each of `rows` is packed."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", shape[1], shape[0], depth, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def write(folder, content, name="a.png"):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def make(folder, image_id="a.jpg", orientation=1, size=SHAPE):
    maker = pickle.loads(pickle.dumps(LabelMapFolder(folder).ready(folder)))
    (maps,) = maker(item(image_id), *photograph(*size, orientation))
    assert maps.dtype == np.uint16
    return maps


@pytest.mark.parametrize(
    ("image_id", "file"),
    [
        ("a.jpg", "a.PNG"),
        ("b/a.jpg", "a.jpg.png"),
        ("x/aachen_000000_000019_leftImg8bit.png", "x/aachen_000000_000019_gtFine_instanceIds.png"),
        ("aachen_000000_000019_leftImg8bit.png", "aachen_000000_000019_gtFine_instanceIds.png"),
        ("ADE_train_1.jpg", "ADE_train_1_seg.png"),
    ],
)
def test_names_of_label_maps_that_people_have(tmp_path, image_id, file):
    values = np.arange(2400).reshape(SHAPE) % 7
    write(tmp_path, encoded(Image.fromarray(values.astype(np.uint8))), file)
    np.testing.assert_array_equal(make(tmp_path, image_id)[0], values)
    assert [entry.name for entry in LabelMapFolder(tmp_path).inputs()] == [file]


def test_whole_numbers_of_other_types_are_read(tmp_path):
    values = np.arange(2400).reshape(SHAPE) % 7
    write(tmp_path, npy(values.astype(np.float32)), "a.npy")
    np.testing.assert_array_equal(make(tmp_path)[0], values)
    (tmp_path / "a.npy").unlink()
    opaque = np.dstack([values, values, values, np.full(SHAPE, 255)]).astype(np.uint8)
    write(tmp_path, encoded(Image.fromarray(opaque)), "a.png")
    np.testing.assert_array_equal(make(tmp_path)[0], values)


def from_0(rng, count=3):
    """A map of all numbers from 0."""
    values = rng.integers(0, count, SHAPE)
    values.flat[:count] = range(count)
    return values


def test_numbers_from_0_are_reported_and_can_be_regions(tmp_path):
    rng = np.random.default_rng(0)
    first, second = from_0(rng), from_0(rng, 7)
    write(tmp_path, npy(first), "a.npy")
    write(tmp_path, encoded(Image.fromarray(second.astype(np.uint8))), "b.png")
    (note,) = LabelMapFolder(tmp_path).notes(tmp_path)
    assert note.startswith("label_maps: 0 occurs in each of the first 2 label maps") and "--zero_is_region" in note
    with_zero = LabelMapFolder(tmp_path, zero_is_region=True)
    assert with_zero.notes(tmp_path) == []
    assert with_zero.layers == ({"name": "label_maps", "method": "label_maps", "zero_is_region": True},)
    for name, values in (("a.jpg", first), ("b.jpg", second)):
        (maps,) = with_zero.ready(tmp_path)(item(name), *photograph(*SHAPE, 1))
        np.testing.assert_array_equal(maps[0], values + 1)


@pytest.mark.parametrize(
    "values",
    [np.ones(SHAPE, int), np.zeros(SHAPE, int), np.arange(2400).reshape(SHAPE) % 3 * 2, np.ones((2, *SHAPE), int)],
)
def test_other_numbers_are_not_reported(tmp_path, values):
    write(tmp_path, npy(from_0(np.random.default_rng(0))), "a.npy")
    write(tmp_path, npy(values), "b.npy")
    assert LabelMapFolder(tmp_path).notes(tmp_path) == []


def numbered(values):
    """Every value except 0 numbered from 1, ascending."""
    found = np.zeros(values.shape, int)
    for label, value in enumerate(sorted(set(values.ravel().tolist()) - {0}), 1):
        found[values == value] = label
    return found


def draw(values, seed=0):
    return np.random.default_rng(seed).choice(values, SHAPE)


def test_gray_of_8_bits(tmp_path):
    values = draw([0, 3, 7, 255]).astype(np.uint8)
    write(tmp_path, encoded(Image.fromarray(values)))
    np.testing.assert_array_equal(make(tmp_path), [numbered(values)])


def test_gray_of_16_bits(tmp_path):
    values = draw([0, 3, 256, 259, 65535]).astype(np.uint16)
    write(tmp_path, encoded(Image.fromarray(values)))
    np.testing.assert_array_equal(make(tmp_path), [numbered(values)])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_gray_of_few_bits(tmp_path, depth):
    values = draw(range(2**depth))
    bits = (values[..., None] >> np.arange(depth)[::-1]) & 1
    write(tmp_path, raw_png(depth, 0, [np.packbits(row).tobytes() for row in bits.reshape(SHAPE[0], -1)]))
    np.testing.assert_array_equal(make(tmp_path), [numbered(values)])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("options", [{}, {"transparency": 0}, {"transparency": b"\0\x80"}])
def test_palettes_give_indices(tmp_path, bits, options):
    values = draw(range(0, 2**bits, 2 if bits == 8 else 1)).astype(np.uint8)
    image = Image.frombytes("P", SHAPE[::-1], values.tobytes())
    image.putpalette([200, 10, 10] * (2**bits - 1) + [0, 0, 0])  # all the same colour, and black at the end
    write(tmp_path, encoded(image, bits=bits, **options))
    np.testing.assert_array_equal(make(tmp_path), [numbered(values)])


def test_colours_are_regions_and_black_is_none(tmp_path):
    colours = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [255, 255, 255], [0, 1, 255]], np.uint8)
    values = draw(range(len(colours)))
    write(tmp_path, encoded(Image.fromarray(colours[values])))
    ascending = np.array([0, 1, 2, 4, 5, 3])[values]  # by red, then green, then blue
    np.testing.assert_array_equal(make(tmp_path), [ascending])


@pytest.mark.parametrize("dtype", ["?", "u1", "<i2", ">i4", "<i8", "<u4", ">u8"])
@pytest.mark.parametrize("order", "CF")
def test_arrays(tmp_path, dtype, order):
    largest = 1 if dtype == "?" else np.iinfo(dtype).max
    values = np.stack([draw(np.array([0, 1, largest, largest // 2], dtype), seed) for seed in range(3)])
    write(tmp_path, npy(np.asarray(values, order=order)), "a.npy")
    np.testing.assert_array_equal(make(tmp_path), [numbered(labels) for labels in values])
    write(tmp_path, npy(np.asarray(values[0], order=order)), "a.npy")
    np.testing.assert_array_equal(make(tmp_path), [numbered(values[0])])


def test_an_array_of_no_maps(tmp_path):
    write(tmp_path, npy(np.zeros((0, *SHAPE), np.uint8)), "a.npy")
    assert make(tmp_path).shape == (0, *SHAPE)


def test_without_zeros_every_pixel_has_a_region(tmp_path):
    values = draw([5, 6])
    write(tmp_path, npy(values), "a.npy")
    np.testing.assert_array_equal(make(tmp_path), [values - 4])


@pytest.mark.parametrize("suffix", [".png", ".npy"])
@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("drawn_on", ["stored", "upright"])
def test_turned_images(tmp_path, orientation, drawn_on, suffix):
    values = np.zeros(SHAPE if drawn_on == "stored" or orientation < 5 else SHAPE[::-1], np.uint8)
    values[3:9, 5:30] = 1
    values[20:, 7:9] = 2
    write(tmp_path, encoded(Image.fromarray(values)) if suffix == ".png" else npy(values), f"a{suffix}")
    turn = UPRIGHT[orientation] if drawn_on == "stored" and orientation >= 5 else UPRIGHT[1]
    np.testing.assert_array_equal(make(tmp_path, orientation=orientation), [turn(values)])


def test_more_regions_than_a_map_holds(tmp_path):
    values = np.arange(256 * 257).reshape(256, 257)
    write(tmp_path, npy(values.clip(0, 65535)), "a.npy")
    np.testing.assert_array_equal(make(tmp_path, size=values.shape), [values.clip(0, 65535)])
    write(tmp_path, npy(values), "a.npy")
    with pytest.raises(BadImage, match="a.npy has 65791 regions in a map"):
        make(tmp_path, size=values.shape)


def test_files_are_found_by_path_or_base_name(tmp_path):
    for number, name in enumerate(["a.npy", "b/a.npy", "b/c.png"], 1):
        values = np.zeros(SHAPE, np.uint8)
        values[0, :number] = np.arange(1, number + 1)
        write(tmp_path, npy(values) if name.endswith("npy") else encoded(Image.fromarray(values)), name)
    for image_id, number in [("a.jpg", 1), ("b/a.jpg", 2), ("b/c.png", 3), ("c/a.png", 1)]:
        assert make(tmp_path, image_id).max() == number
    with pytest.raises(BadImage, match="no b/d.png or b/d.npy in "):
        make(tmp_path, "b/d.jpg")
    with pytest.raises(BadImage, match="no c.png or c.npy in "):
        make(tmp_path, "c.jpg")
    write(tmp_path, b"", "b/a.png")
    with pytest.raises(BadImage, match="a.png and a.npy both exist"):
        make(tmp_path, "b/a.jpg")


def header(text, version=1):
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode()


HUGE = "{'descr': '|u1', 'fortran_order': False, 'shape': (%d, %d, %d)}\n"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.png", b"", "a.png is truncated, corrupt or not a PNG"),
        ("a.png", b"GIF89a" + bytes(100), "a.png is truncated, corrupt or not a PNG"),
        ("a.png", encoded(Image.fromarray(draw(range(255)).astype(np.uint8)))[:-200], "a.png is truncated, corrupt"),
        ("a.png", encoded(Image.new("L", (41, 60))), "a.png is for an image of 41x60, not 60x40"),
        ("a.png", raw_png(8, 0, [], (9000, 9000)), "a.png is for an image of 9000x9000"),
        ("a.png", raw_png(8, 0, [], (60_000, 60_000)), "a.png is truncated, corrupt or not a PNG: Image size"),
        ("a.png", encoded(Image.new("RGBA", SHAPE[::-1])), "a.png has transparent pixels"),
        ("a.png", encoded(Image.new("LA", SHAPE[::-1])), "a.png has transparent pixels"),
        ("a.png", encoded(Image.new("L", SHAPE[::-1]), transparency=3), "a.png has transparent pixels"),
        ("a.png", encoded(Image.new("RGB", SHAPE[::-1]), transparency=(1, 2, 3)), "a.png has transparent pixels"),
        ("a.png", raw_png(16, 2, [bytes(6 * SHAPE[1])] * SHAPE[0]), "a.png has 16-bit colours"),
        ("a.npy", b"", "a.npy is not an NPY file"),
        ("a.npy", b"PK\x03\x04" + bytes(100), "a.npy is not an NPY file"),
        ("a.npy", header("{'descr': '|u1'}"), "a.npy is not an NPY file"),
        ("a.npy", header("(" * 3000, 2), "a.npy is not an NPY file"),
        ("a.npy", header("{'a': " * 1000), "a.npy is not an NPY file"),
        (
            "a.npy",
            npy(np.full(SHAPE, 0.5, "f4")),
            "a.npy holds float32 .40, 60. with values that are not whole numbers",
        ),
        ("a.npy", npy(np.full(SHAPE, np.nan)), "a.npy holds float64 .40, 60. with values that are not whole numbers"),
        ("a.npy", npy(np.zeros(SHAPE, complex)), "a.npy holds complex128"),
        ("a.npy", npy(np.zeros(SHAPE, "c8")), "a.npy holds complex64"),
        ("a.npy", npy(np.zeros(SHAPE, "M8[s]")), "a.npy holds datetime64"),
        ("a.npy", npy(np.zeros(SHAPE, "u1,u1")), "a.npy holds "),
        ("a.npy", npy(np.zeros(SHAPE, object)), "a.npy holds object"),
        ("a.npy", npy(np.zeros(SHAPE[0], "u1")), "a.npy holds uint8 .40,., not"),
        ("a.npy", npy(np.zeros((1, 1, *SHAPE), "u1")), "a.npy holds uint8 .1, 1, 40, 60., not"),
        ("a.npy", npy(np.zeros((40, 61), "u1")), "a.npy is for an image of 61x40, not 60x40"),
        ("a.npy", npy(np.full(SHAPE, -1)), "a.npy has negative numbers"),
        ("a.npy", npy(np.zeros(SHAPE))[:-1], "a.npy is truncated"),
        ("a.npy", npy(np.zeros(SHAPE, "u1"))[:-1], "a.npy is truncated"),
        ("a.npy", npy(np.zeros(SHAPE, "u1")) + b"\0", "a.npy is truncated, or longer"),
        ("a.npy", header(HUGE % (1, 10**6, 10**6)), "a.npy is for an image of 1000000x1000000"),
        ("a.npy", header(HUGE % (1, 10**18, 10**18)), "a.npy holds uint8 "),
        ("a.npy", header(HUGE % (10**7, *SHAPE)), "a.npy is truncated"),
        ("a.npy", header(HUGE % (-1, *SHAPE)), "a.npy holds uint8 .-1, 40, 60., not"),
    ],
)
def test_what_is_refused(tmp_path, name, content, reason):
    write(tmp_path, content, name)
    with pytest.raises(BadImage, match=reason) as caught:
        make(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["png", "npy"])
def test_random_damage_gives_maps_or_a_reason(tmp_path, kind):
    """Never another exception, and never a warning (which the test settings turn into an error)."""
    rng = np.random.default_rng(0)
    values = draw([0, 1, 2]).astype(np.uint8)
    whole = np.frombuffer(npy(values) if kind == "npy" else encoded(Image.fromarray(values)), np.uint8)
    maker = LabelMapFolder(tmp_path).ready(tmp_path)
    data, pixels = photograph(*SHAPE)
    for _ in range(500):
        damaged = whole.copy()
        damaged[rng.integers(0, 130, 2)] = rng.choice([*rng.integers(0, 256, 4), *b"()[]{}'\"\\,:\n0"], 2)
        write(tmp_path, damaged.tobytes(), f"a.{kind}")
        try:
            (maps,) = maker(item(), data, pixels)
        except BadImage as error:
            assert "\n" not in str(error)
        else:
            assert maps.dtype == np.uint16 and maps.shape[1:] == SHAPE


def test_inputs_and_layers(tmp_path):
    for name in ("z.png", "b/c.npy", "b.npy", "no.jpg"):
        write(tmp_path, b"12", name)
    assert [entry[:2] for entry in LabelMapFolder(tmp_path).inputs()] == [("b.npy", 2), ("b/c.npy", 2), ("z.png", 2)]
    assert LabelMapFolder(tmp_path, name="parts").layers == ({"name": "parts", "method": "label_maps"},)


def test_a_missing_folder(tmp_path):
    source = LabelMapFolder(tmp_path / "none")
    for use in (source.inputs, lambda: source.ready(tmp_path)):
        with pytest.raises(PrepError, match="none is not a folder; give the folder"):
            use()
