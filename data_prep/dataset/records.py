"""The record: one image with its label maps. Records are the only contract between data_prep and training.

A record is stored as a serialised `tf.train.Example` with these features:

    image          bytes      JPEG
    image_id       bytes      path below the image folder, UTF-8
    height, width  int64      of the decoded image
    regions/shape  int64[3]   S, H, W: number of label maps and their size
    regions/value  bytes      zlib of little-endian uint16 label maps, C order; 0 = no region
    num_regions    int64[S]   regions per label map; they are numbered 1..n, or by 1 + class in a layer of the method
                              "semantic"
    region_layers  int64[S]   which of the dataset's named layers each label map belongs to, ascending; if another
                              writer omits it, map s belongs to layer s
    label          int64      class for probes, -1 if none
"""

import dataclasses
from functools import cached_property

import numpy as np
import simplejpeg
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory
from jaxtyping import UInt8, UInt16
from zlib_ng import zlib_ng

FIELDS = (
    "image",
    "image_id",
    "height",
    "width",
    "regions/shape",
    "regions/value",
    "num_regions",
    "region_layers",
    "label",
)
OPTIONAL_FIELDS = frozenset(("region_layers",))


@dataclasses.dataclass(frozen=True)
class Record:
    """One image and its label maps.

    Attributes:
      image: JPEG bytes.
      image_id: path below the image folder, or the source's own id.
      height: height of the decoded image, in pixels.
      width: width of the decoded image, in pixels.
      region_layers: for each of the S label maps, the index of the dataset's layer that it belongs to, ascending.
        Overlapping masks need several maps of one layer; an image without regions has none.
      packed_regions: the label maps, compressed by `pack_regions`.
      num_regions: number of regions in each label map.
      label: class index, -1 if the image has none.
    """

    image: bytes
    image_id: str
    height: int
    width: int
    region_layers: tuple[int, ...]
    packed_regions: bytes
    num_regions: tuple[int, ...]
    label: int = -1

    @cached_property
    def regions(self) -> UInt16[np.ndarray, "maps height width"]:
        """The label maps, decompressed on first use.

        Raises:
          ValueError: the packed bytes are corrupt or do not fit the shape.
        """
        shape = (len(self.region_layers), self.height, self.width)
        try:
            maps = np.frombuffer(zlib_ng.decompress(self.packed_regions, bufsize=2 * int(np.prod(shape)) + 1), "<u2")
            return maps.reshape(shape)
        except (zlib_ng.error, ValueError) as error:
            raise ValueError(f"record {self.image_id}: corrupt region maps: {error}") from error


def pack_regions(maps: UInt16[np.ndarray, "maps height width"]) -> bytes:
    """Compresses label maps: zlib (level 9) of little-endian uint16, C order."""
    return zlib_ng.compress(np.ascontiguousarray(maps, "<u2").tobytes(), 9)


def decode_image(jpeg: bytes) -> UInt8[np.ndarray, "height width 3"]:
    """Decodes a record's JPEG to RGB. Regions are computed on exactly the pixels that training reads.

    Raises:
      ValueError: the bytes are not a complete JPEG.
    """
    return simplejpeg.decode_jpeg(jpeg, colorspace="RGB")


def encode(record: Record) -> bytes:
    """Serialises a record; equal records give equal bytes."""
    example = Example()
    feature = example.features.feature
    feature["image"].bytes_list.value.append(record.image)
    feature["image_id"].bytes_list.value.append(record.image_id.encode())
    feature["height"].int64_list.value.append(record.height)
    feature["width"].int64_list.value.append(record.width)
    feature["regions/shape"].int64_list.value.extend((len(record.region_layers), record.height, record.width))
    feature["regions/value"].bytes_list.value.append(record.packed_regions)
    feature["num_regions"].int64_list.value.extend(record.num_regions)
    feature["region_layers"].int64_list.value.extend(record.region_layers)
    feature["label"].int64_list.value.append(record.label)
    return example.SerializeToString(deterministic=True)


def decode(data: bytes) -> Record:
    """Parses a serialised record; the image and the regions stay compressed until they are used.

    Raises:
      ValueError: the bytes are not a `tf.train.Example` or lack a field of the schema.
    """
    try:
        feature = Example.FromString(data).features.feature
    except message.DecodeError as error:
        raise ValueError(f"not a tf.train.Example: {error}") from error
    missing = [name for name in FIELDS if name not in feature and name not in OPTIONAL_FIELDS]
    if missing:
        raise ValueError(f"not a region record: no {', '.join(missing)}; has {', '.join(sorted(feature))}")
    try:
        num_maps, height, width = feature["regions/shape"].int64_list.value
        region_layers = tuple(range(num_maps))
        if "region_layers" in feature:
            region_layers = tuple(feature["region_layers"].int64_list.value)
            if len(region_layers) != num_maps:
                raise ValueError(f"{len(region_layers)} region_layers for {num_maps} label maps")
        return Record(
            image=feature["image"].bytes_list.value[0],
            image_id=feature["image_id"].bytes_list.value[0].decode(),
            height=height,
            width=width,
            region_layers=region_layers,
            packed_regions=feature["regions/value"].bytes_list.value[0],
            num_regions=tuple(feature["num_regions"].int64_list.value),
            label=feature["label"].int64_list.value[0],
        )
    except (IndexError, ValueError) as error:
        raise ValueError(f"not a region record: a field is empty or of the wrong type ({error})") from error


def stated_size(data: bytes) -> tuple[int, int]:
    """Returns the values of the features height and width, -1 if missing; `decode` uses regions/shape instead.

    Args:
      data: a serialised record that can be decoded.
    """
    feature = Example.FromString(data).features.feature
    return tuple((*feature[side].int64_list.value, -1)[0] for side in ("height", "width"))


def _example_class() -> type[message.Message]:
    """Builds the message class of `tf.train.Example` from its published field numbers, without TensorFlow."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="rmae/example.proto", package="tensorflow", syntax="proto3")

    def add(parent, name, *fields):
        declared = parent.add(name=name)
        for number, (field_name, label, kind) in enumerate(fields, start=1):
            of_message = {"type": field.TYPE_MESSAGE, "type_name": kind} if isinstance(kind, str) else {"type": kind}
            declared.field.add(name=field_name, number=number, label=label, **of_message)
        return declared

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    lists = {"bytes_list": "BytesList", "float_list": "FloatList", "int64_list": "Int64List"}
    for name, kind in zip(lists.values(), (field.TYPE_BYTES, field.TYPE_FLOAT, field.TYPE_INT64), strict=True):
        add(file.message_type, name, ("value", many, kind))
    feature = add(file.message_type, "Feature", *((k, one, f".tensorflow.{v}") for k, v in lists.items()))
    feature.oneof_decl.add(name="kind")
    for member in feature.field:
        member.oneof_index = 0
    features = add(file.message_type, "Features", ("feature", many, ".tensorflow.Features.FeatureEntry"))
    entry = add(
        features.nested_type,
        "FeatureEntry",
        ("key", one, field.TYPE_STRING),
        ("value", one, ".tensorflow.Feature"),
    )
    entry.options.map_entry = True
    add(file.message_type, "Example", ("features", one, ".tensorflow.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


Example = _example_class()
