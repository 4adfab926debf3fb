"""Images per second and core of the input pipeline, compared with the usual loop of PyTorch training code.

    python -m benchmarks.input_pipeline [--rounds=5] [--batch=64]

Both read the same photographs (those that scikit-image ships, at about 640x480 pixels) with the same Felzenszwalb
regions, and run in turns on one core. "usual": Pillow decodes, crops and resizes; label maps are .npy files,
nearest-resized; np.unique finds the candidates; pixels and the K one-hot maps go to the device as float32. "ours":
`rmae_jax.data.batches`. Time is the processor time of the whole process, including its threads.
"""

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import simplejpeg
import skimage.data
from PIL import Image
from skimage.segmentation import felzenszwalb

from data_prep.dataset import records, tfrecord
from data_prep.dataset.split import Split
from rmae_jax.data import TFRecordSource
from rmae_jax.data.batches import stream
from rmae_jax.data.crops import random_resized_crop
from rmae_jax.data.examples import RandomExamples

SCALES = (500, 1000, 1500)
SIZE, NUM_REGIONS = 224, 8
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def photographs() -> dict[str, np.ndarray]:
    """Returns photographs that scikit-image ships, resized to about 640x480 pixels each."""
    names = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "immunohistochemistry", "retina", "rocket")
    images = {}
    for name in names:
        image = Image.fromarray(getattr(skimage.data, name)())
        factor = (640 * 480 / (image.width * image.height)) ** 0.5
        size = (round(image.width * factor), round(image.height * factor))
        images[name] = np.asarray(image.resize(size, Image.BICUBIC))
    return images


def prepare(folder: Path) -> None:
    """Writes a dataset of one shard, and the same images and regions as .jpg and .npy files."""
    index, offset = [], 0
    with open(Split(folder, "photos", "train").shard_path(0, 1), "wb") as shard:
        for name, image in photographs().items():
            jpeg = simplejpeg.encode_jpeg(image, quality=95, colorsubsampling="420")
            pixels = records.decode_image(jpeg)
            layers = np.stack([felzenszwalb(pixels, scale=s, sigma=0.8, min_size=s) + 1 for s in SCALES])
            layers = layers.astype(np.uint16)
            (folder / f"{name}.jpg").write_bytes(jpeg)
            np.save(folder / f"{name}.npy", layers)
            counts = tuple(int(layer.max()) for layer in layers)
            record = records.Record(jpeg, name, *pixels.shape[:2], (0, 1, 2), records.pack_regions(layers), counts)
            framed = tfrecord.frame(records.encode(record))
            shard.write(framed)
            index.append((0, offset, len(framed) - tfrecord.FRAMING_BYTES))
            offset += len(framed)
    np.save(Split(folder, "photos", "train").index_path, np.array(index, np.int64))
    metadata = {"layers": [{"name": f"fh_{s}"} for s in SCALES], "shard_lengths": [len(index)]}
    (Split(folder, "photos", "train").metadata_path).write_text(json.dumps(metadata))


def usual_batches(folder: Path, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields the batches of the usual loop over files."""
    rng = np.random.default_rng(0)
    files = sorted(folder.glob("*.jpg"))
    while True:
        made = [usual_example(rng, files[i]) for i in rng.integers(len(files), size=batch_size)]
        yield {key: np.stack([example[key] for example in made]) for key in made[0]}


def usual_example(rng: np.random.Generator, file: Path) -> dict[str, np.ndarray]:
    """Returns one example as float32 pixels and K float32 maps."""
    image = Image.open(file).convert("RGB")
    crop = random_resized_crop(rng, image.height, image.width)
    box = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
    pixels = np.asarray(image.crop(box).resize((SIZE, SIZE), Image.BICUBIC), np.float32) / 255
    layers = np.load(file.with_suffix(".npy"))[:, crop.top : box[3], crop.left : box[2]]
    rows, columns = (
        (np.arange(SIZE, dtype=np.float32) * np.float32(side / SIZE)).astype(np.int64)  # like PyTorch's "nearest"
        for side in (crop.height, crop.width)
    )
    layers = layers[:, rows[:, None], columns]
    if crop.flip:
        pixels, layers = pixels[:, ::-1], layers[:, :, ::-1]
    candidates = [(s, label) for s, layer in enumerate(layers) for label in np.unique(layer) if label]
    if len(candidates) >= NUM_REGIONS:
        drawn = rng.choice(len(candidates), NUM_REGIONS, replace=False)
    else:
        repeats = -(-NUM_REGIONS // len(candidates))
        drawn = rng.permutation(np.tile(np.arange(len(candidates)), repeats))[:NUM_REGIONS]
    maps = np.stack([layers[candidates[k][0]] == candidates[k][1] for k in drawn])
    return {"images": (pixels - MEAN) / STD, "regions": maps.astype(np.float32)}


def equal(folder: Path, source: TFRecordSource) -> int:
    """Returns the number of photographs for which both sides create equal examples from equal random numbers."""
    examples = RandomExamples(source, SIZE, NUM_REGIONS)
    count = 0
    for record in range(len(source)):
        ours = examples(record, np.random.default_rng(record))
        theirs = usual_example(np.random.default_rng(record), folder / f"{source[record].image_id}.jpg")
        pixels = (ours["images"].astype(np.float32) / 255 - MEAN) / STD
        maps = ours["regions"][None] >> np.arange(NUM_REGIONS)[:, None, None] & 1
        count += np.array_equal(pixels, theirs["images"]) and np.array_equal(maps, theirs["regions"])
    return count


def rate(side: Iterator[dict[str, np.ndarray]], num_batches: int, batch_size: int) -> float:
    """Returns images per second of processor time, measured from full buffers to full buffers."""
    start = wait_until_idle()
    for _ in itertools.islice(side, num_batches):
        pass
    return num_batches * batch_size / (wait_until_idle() - start)


def wait_until_idle() -> float:
    """Waits until no thread prefetches any more; returns the processor time so far."""
    before, now = -1.0, time.process_time()
    while now - before > 0.001:
        time.sleep(0.05)
        before, now = now, time.process_time()
    return now


def main() -> None:
    """Prints the number of equal examples, both rates, their ratio, and the bytes each side sends to the device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        usual = usual_batches(Path(folder), arguments.batch)
        source = TFRecordSource(folder)
        print(f"equal examples from equal random numbers: {equal(Path(folder), source)} of {len(source)} photographs")
        examples = RandomExamples(source, SIZE, NUM_REGIONS, cache_bytes=0)  # as for a large dataset
        ours = stream(examples, seed=0, batch_size=arguments.batch)
        sides = {"usual": usual, "ours": ours}
        size = {
            name: sum(array.nbytes for key, array in next(side).items() if key != "record") / arguments.batch / 1024
            for name, side in sides.items()
        }
        rates = {name: [] for name in sides}
        for _ in range(arguments.rounds):
            for name, side in sides.items():
                rates[name].append(rate(side, 4, arguments.batch))
        ours.close()
    for name, values in rates.items():
        print(f"{name:5s}  {np.median(values):6.0f} images/s per core  {size[name]:6.0f} KiB to the device per image")
    ratio = np.array(rates["ours"]) / np.array(rates["usual"])
    print(f"ratio  {np.median(ratio):.2f} (rounds: {', '.join(f'{r:.2f}' for r in ratio)})")


if __name__ == "__main__":
    main()
