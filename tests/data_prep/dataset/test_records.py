"""The record schema against an independent implementation of tf.train.Example."""

import dataclasses
import zlib

import numpy as np
import pytest
import simplejpeg

from data_prep.dataset import records


@pytest.fixture
def layers() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (2, 7, 9), dtype=np.uint16)


@pytest.fixture
def record(layers) -> records.Record:
    image = np.random.default_rng(1).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return records.Record(
        image=simplejpeg.encode_jpeg(image),
        image_id="Straße/図.jpg",
        height=7,
        width=9,
        region_layers=(0, 4),
        packed_regions=records.pack_regions(layers),
        num_regions=(12, 60000),
        label=-1,
    )


@pytest.fixture(scope="module")
def example_class():
    """The message class that tensorflow-datasets ships."""
    return pytest.importorskip("tensorflow_datasets.proto.tf_example_generated_pb2").Example


def test_a_record_comes_back(record, layers):
    back = records.decode(records.encode(record))
    assert back == record
    np.testing.assert_array_equal(back.regions, layers)


def test_equal_records_give_equal_bytes(record):
    assert records.encode(record) == records.encode(dataclasses.replace(record))


def test_an_independent_reader_finds_every_field(record, layers, example_class):
    feature = example_class.FromString(records.encode(record)).features.feature
    assert set(feature) == set(records.FIELDS)
    assert feature["image"].bytes_list.value == [record.image]
    assert feature["image_id"].bytes_list.value == ["Straße/図.jpg".encode()]
    assert feature["height"].int64_list.value == [7] and feature["width"].int64_list.value == [9]
    assert feature["regions/shape"].int64_list.value == [2, 7, 9]
    assert feature["num_regions"].int64_list.value == [12, 60000]
    assert feature["region_layers"].int64_list.value == [0, 4]
    assert feature["label"].int64_list.value == [-1]
    (packed,) = feature["regions/value"].bytes_list.value
    np.testing.assert_array_equal(np.frombuffer(zlib.decompress(packed), "<u2").reshape(2, 7, 9), layers)


def test_an_independent_writers_record_is_read(record, layers, example_class):
    """With another writer's order of fields, level of compression, and a field more."""
    example = example_class()
    feature = example.features.feature
    feature["label"].int64_list.value.append(-1)
    feature["more"].float_list.value.append(1.5)
    feature["num_regions"].int64_list.value.extend([12, 60000])
    feature["regions/value"].bytes_list.value.append(zlib.compress(layers.tobytes(), 1))
    feature["regions/shape"].int64_list.value.extend([2, 7, 9])
    feature["width"].int64_list.value.append(9)
    feature["height"].int64_list.value.append(7)
    feature["image_id"].bytes_list.value.append("Straße/図.jpg".encode())
    feature["image"].bytes_list.value.append(record.image)
    back = records.decode(example.SerializeToString())
    np.testing.assert_array_equal(back.regions, layers)
    assert dataclasses.replace(back, packed_regions=record.packed_regions, region_layers=(0, 4)) == record
    assert back.region_layers == (0, 1)
    feature["region_layers"].int64_list.value.append(0)
    with pytest.raises(ValueError, match="1 region_layers for 2 label maps"):
        records.decode(example.SerializeToString())


def test_a_record_without_regions(record):
    empty = records.pack_regions(np.zeros((0, 7, 9), np.uint16))
    plain = dataclasses.replace(record, region_layers=(), packed_regions=empty, num_regions=())
    back = records.decode(records.encode(plain))
    assert back == plain and back.regions.shape == (0, 7, 9)


def test_packing_takes_any_layout(layers):
    for same in (np.asfortranarray(layers), layers.astype(">u2"), np.repeat(layers, 2, axis=1)[:, ::2]):
        assert records.pack_regions(same) == records.pack_regions(layers)


def test_damaged_region_maps_are_named(record):
    packed = record.packed_regions
    middle = bytes([packed[len(packed) // 2] ^ 1])
    for bad in (b"", packed[:-1], packed[: len(packed) // 2] + middle + packed[len(packed) // 2 + 1 :]):
        with pytest.raises(ValueError, match=r"Straße/図\.jpg: corrupt region maps"):
            _ = dataclasses.replace(record, packed_regions=bad).regions
    with pytest.raises(ValueError, match="corrupt region maps"):
        _ = dataclasses.replace(record, height=8).regions


def test_bytes_that_are_no_record(record, example_class):
    with pytest.raises(ValueError, match=r"not a tf\.train\.Example"):
        records.decode(b"\xff\xff\xff")
    with pytest.raises(ValueError, match="not a region record: no image, image_id"):
        records.decode(b"")
    for field in set(records.FIELDS) - records.OPTIONAL_FIELDS:
        example = example_class.FromString(records.encode(record))
        del example.features.feature[field]
        with pytest.raises(ValueError, match=f"no {field}; has"):
            records.decode(example.SerializeToString())
    for field in set(records.FIELDS) - {"num_regions", "height", "width"}:
        example = example_class.FromString(records.encode(record))
        example.features.feature[field].Clear()
        with pytest.raises(ValueError, match="empty or of the wrong type"):
            records.decode(example.SerializeToString())


def test_decoding_images():
    image = np.full((16, 24, 3), (200, 30, 90), np.uint8)
    for jpeg in (
        simplejpeg.encode_jpeg(image, quality=95),
        simplejpeg.encode_jpeg(image[..., :1].copy(), colorspace="GRAY"),
    ):
        decoded = records.decode_image(jpeg)
        assert decoded.shape == (16, 24, 3) and decoded.dtype == np.uint8
    with pytest.raises(ValueError, match=r".+"):
        records.decode_image(jpeg[:-30])
    with pytest.raises(ValueError, match=r".+"):
        records.decode_image(b"no jpeg")
