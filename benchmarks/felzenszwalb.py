"""Time of data_prep.felzenszwalb.layers, compared with three calls of skimage.segmentation.felzenszwalb.

    python -m benchmarks.felzenszwalb [--runs=5] [--images=DIR]

Uses the photographs that scikit-image ships, or those of a folder, resized to about 640x480 pixels. Both sides run
alternately in one thread; Numba's compilation is not counted.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from skimage.data import __file__ as skimage_data
from skimage.segmentation import felzenszwalb as skimage_felzenszwalb

from data_prep import felzenszwalb, images, shipped_photographs
from data_prep.dataset import records

PIXELS = 640 * 480
SCALES = (500, 1000, 1500)


def main() -> None:
    """Prints a line for each photograph and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each side on each photograph")
    parser.add_argument("--images", type=Path, help="folder of photographs (default: those of scikit-image)")
    flags = parser.parse_args()
    if flags.images is None:
        paths = [Path(skimage_data).parent / name for name in shipped_photographs.PHOTOGRAPHS]
    else:
        paths = [flags.images / name for name in images.find(flags.images).names]
    felzenszwalb.layers(np.zeros((2, 2, 3), np.uint8), SCALES)
    ours, theirs, identical, packed = [], [], 0, []
    for path in paths:
        image = resized(path)
        pairs = [(timed(our_layers, image), timed(their_layers, image)) for _ in range(flags.runs)]
        ours.append(statistics.median(our_time for (our_time, _), _ in pairs))
        theirs.append(statistics.median(their_time for _, (their_time, _) in pairs))
        (_, our_result), (_, their_result) = pairs[0]
        same = np.array_equal(our_result, their_result)
        identical += same
        packed.append(len(records.pack_regions(our_result)))
        print(
            f"{path.stem:20} {image.shape[1]}x{image.shape[0]}  ours {1000 * ours[-1]:6.1f} ms  "
            f"scikit-image {1000 * theirs[-1]:7.1f} ms  {theirs[-1] / ours[-1]:5.1f} x  "
            f"{'identical' if same else 'DIFFERENT'}  {packed[-1]} bytes packed"
        )
    ratio = statistics.median(their_time / our_time for our_time, their_time in zip(ours, theirs, strict=True))
    print(
        f"median of {len(paths)}: ours {1000 * statistics.median(ours):.1f} ms, "
        f"scikit-image {1000 * statistics.median(theirs):.1f} ms, ratio {ratio:.1f} x; identical partitions: "
        f"{identical} of {len(paths)}; mean packed size {statistics.mean(packed):.0f} bytes"
    )


def resized(path: Path) -> UInt8[np.ndarray, "height width 3"]:
    """Reads a photograph, resized to about as many pixels as 640x480."""
    with Image.open(path) as photograph:
        photograph = photograph.convert("RGB")
    factor = (PIXELS / (photograph.width * photograph.height)) ** 0.5
    size = round(photograph.width * factor), round(photograph.height * factor)
    return np.asarray(photograph.resize(size, Image.Resampling.BICUBIC))


def our_layers(image):
    return felzenszwalb.layers(image, SCALES)


def their_layers(image):
    return np.stack([1 + skimage_felzenszwalb(image, scale=s, sigma=0.8, min_size=s) for s in SCALES])


def timed(function, image):
    start = time.perf_counter()
    result = function(image)
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
