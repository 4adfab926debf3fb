"""A reader for PNG files whose pixels are labels, which does not change any label."""

import io
import warnings

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data_prep.errors import one_line
from data_prep.images import BadImage
from data_prep.regions.region_source import orient_to_image

_DEPTH = 24  # position of the bit depth in the header, which is a PNG's first chunk


def read(data: bytes, image_data: bytes, pixels: UInt8[np.ndarray, "height width 3"], what: str) -> np.ndarray:
    """Decodes a PNG that has the size of an image, either upright or as stored in the image's file.

    Args:
      data: the PNG file's bytes.
      image_data: the image file's bytes.
      pixels: the upright image.
      what: the name of the PNG in messages.

    Returns:
      Unturned pixels: (height, width) with gray values, scaled if they have 2 or 4 bits, or palette indices; or
      (height, width, 3) with uint8 RGB.

    Raises:
      BadImage: the data is not a PNG, corrupt, of another size, or has transparent pixels or 16-bit colours.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about large sizes; the size is checked before decoding
        try:
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                orient_to_image(np.zeros((0, image.height, image.width), np.uint16), image_data, pixels, what)
                # A palette may mark colours as transparent, but the pixels are indices all the same.
                if image.mode in ("RGBA", "LA") and image.getchannel("A").getextrema() == (255, 255):
                    image = image.convert(image.mode.removesuffix("A"))
                if "A" in image.mode or ("transparency" in image.info and image.mode != "P"):
                    raise BadImage(f"{what} has transparent pixels, whose region is unknown")
                if image.mode == "RGB" and data[_DEPTH] == 16:
                    raise BadImage(f"{what} has 16-bit colours, of which Pillow reads only 8 bits")
                return np.asarray(image)
        except BadImage:
            raise
        except Exception as error:  # Pillow's decoders raise nearly any exception on corrupt bytes
            raise BadImage(f"{what} is truncated, corrupt or not a PNG: {one_line(error)}") from error
