"""PNG files whose pixels are numbers and not light: read so that no number is changed."""

import io
import warnings

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data_prep.errors import one_line
from data_prep.images import BadImage
from data_prep.regions.region_source import fit

_DEPTH = 24  # byte of the header, which PNG puts first


def read(data: bytes, image_data: bytes, pixels: UInt8[np.ndarray, "height width 3"], what: str) -> np.ndarray:
    """Decodes a PNG of an image's size, upright or as the image's file has it.

    Args:
      data: the PNG file's bytes.
      image_data: the image file's bytes.
      pixels: the upright image.
      what: names the PNG in messages.

    Returns:
      As the file has it, (height, width): gray values, scaled if they have 2 or 4 bits, or indices of a palette; or
      (height, width, 3): uint8 RGB.

    Raises:
      BadImage: it is no PNG, damaged, of another size, or has transparent pixels or colours of 16 bits.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of the size, which is checked before anything is decoded
        try:
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                fit(np.zeros((0, image.height, image.width), np.uint16), image_data, pixels, what)
                # A palette may say which colours are transparent, but its pixels are indices all the same.
                if "A" in image.mode or ("transparency" in image.info and image.mode != "P"):
                    raise BadImage(f"{what} has transparent pixels, whose region is not known")
                if image.mode == "RGB" and data[_DEPTH] == 16:
                    raise BadImage(f"{what} has colours of 16 bits, of which Pillow reads only 8")
                return np.asarray(image)
        except BadImage:
            raise
        except Exception as error:  # on damaged bytes, Pillow's decoders raise nearly anything
            raise BadImage(f"{what} is no PNG, damaged or cut short: {one_line(error)}") from error
