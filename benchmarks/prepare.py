"""Time of a whole data_prep job, compared with the usual loop of Pillow, three scikit-image calls and np.save.

    python -m benchmarks.prepare [--images=DIR] [--rounds=3] [--workers=2] [--copies=8]

Uses the photographs of a folder, or several crops of each photograph that scikit-image ships, at about 640x480 pixels.
Every round runs both sides, one after the other, with the same number of processes. A side's time is that of its whole
command, including starting its processes, compiling and loading. Also measures the bytes of region maps per image, one
process against two, and the peak memory of a worker for photographs of growing size.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import __file__ as skimage_data
from skimage.segmentation import felzenszwalb

from data_prep import images, shipped_photographs
from data_prep.dataset import records, tfrecord
from data_prep.dataset.split import Split

SCALES = (500, 1000, 1500)
PIXELS = 640 * 480
MEGAPIXELS = (0.3, 1, 4, 16)


def main() -> None:
    """Prints times, ratios, sizes and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of photographs (default: those of scikit-image)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--copies", type=int, default=8, help="crops of each of scikit-image's photographs")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        folder = flags.images or crops(scratch / "photographs", flags.copies)
        paths = [folder / name for name in images.find(folder).names]
        print(f"{len(paths)} photographs, {flags.workers} processes")
        ours(folder, scratch / "compiled", flags.workers)  # fills Numba's cache, which later jobs also use
        rounds = []
        for number in range(flags.rounds):
            mine = ours(folder, scratch / f"ours{number}", flags.workers)
            theirs = usual(paths, scratch / f"usual{number}", flags.workers)
            rounds.append(theirs / mine)
            print(f"  data_prep {mine:6.1f} s   usual loop {theirs:6.1f} s   ratio {rounds[-1]:.2f}")
        print(f"whole job: usual loop over data_prep, median ratio {statistics.median(rounds):.2f}")
        packed, plain = packed_bytes(scratch / "ours0"), npy_bytes(scratch / "usual0")
        print(f"region maps per image: {packed:.0f} bytes, .npy of uint8 {plain:.0f}: {packed / plain:.2%}")
        pairs = [
            (ours(folder, scratch / f"one{number}", 1), ours(folder, scratch / f"two{number}", 2))
            for number in range(flags.rounds)
        ]
        scaling = statistics.median(one / two for one, two in pairs)
        print(f"1 -> 2 processes: {', '.join(f'{a:.1f} -> {b:.1f} s' for a, b in pairs)}, median ratio {scaling:.2f}")
        memory(scratch)


def crops(folder: Path, copies: int) -> Path:
    """Writes crops of scikit-image's photographs as JPEG, each resized to about 640x480 pixels; returns the folder."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in shipped_photographs.PHOTOGRAPHS:
        with Image.open(Path(skimage_data).parent / name) as photograph:
            photograph = photograph.convert("RGB")
        for copy in range(copies):
            left, top = (round(side * rng.uniform(0, 0.2)) for side in photograph.size)
            right, bottom = (round(side * rng.uniform(0.8, 1)) for side in photograph.size)
            crop = photograph.crop((left, top, right, bottom))
            factor = (PIXELS / (crop.width * crop.height)) ** 0.5
            size = round(crop.width * factor), round(crop.height * factor)
            crop.resize(size, Image.Resampling.BICUBIC).save(folder / f"{Path(name).stem}_{copy}.jpg", quality=95)
    return folder


def ours(folder: Path, output: Path, workers: int) -> float:
    """Returns the seconds that `python -m data_prep` takes."""
    return seconds([f"--images={folder}", f"--output={output}", f"--workers={workers}"])


def seconds(flags: list[str]) -> float:
    """Runs data_prep as a user does; returns its seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "data_prep", *flags], check=True, capture_output=True)
    return time.perf_counter() - start


def usual(paths: list[Path], output: Path, workers: int) -> float:
    """Returns the seconds that the usual loop takes in a pool of processes."""
    start = time.perf_counter()
    output.mkdir()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.starmap(usual_image, [(path, output) for path in paths], chunksize=1)
    return time.perf_counter() - start


def usual_image(path: Path, output: Path) -> None:
    """Processes a photograph as the usual loop does; saves uint8, the smallest type it could choose."""
    image = np.asarray(Image.open(path).convert("RGB"))
    maps = [felzenszwalb(image, scale=scale, sigma=0.8, min_size=scale) for scale in SCALES]
    np.save(output / f"{path.stem}.npy", np.stack(maps).astype(np.uint8))


def packed_bytes(dataset: Path) -> float:
    """Returns the mean bytes of the region maps in a dataset's records."""
    rows = np.load(Split(dataset, "regions", "train").index_path)
    shards = len(json.loads((Split(dataset, "regions", "train").metadata_path).read_text())["shard_lengths"])
    sizes = []
    for shard, offset, length in rows.tolist():
        with (Split(dataset, "regions", "train").shard_path(shard, shards)).open("rb") as file:
            file.seek(offset + tfrecord.HEADER_BYTES)
            sizes.append(len(records.decode(file.read(length)).packed_regions))
    return statistics.mean(sizes)


def npy_bytes(folder: Path) -> float:
    """Returns the mean size of the usual loop's files, in bytes."""
    return statistics.mean(path.stat().st_size for path in folder.glob("*.npy"))


def memory(scratch: Path) -> None:
    """Prints the peak memory of a job in one process, for photographs of growing size."""
    with Image.open(Path(skimage_data).parent / "retina.jpg") as photograph:
        photograph = photograph.convert("RGB")
    smallest = None
    for megapixels in MEGAPIXELS:
        side = round((megapixels * 1e6) ** 0.5)
        folder = scratch / f"memory{megapixels}"
        folder.mkdir()
        photograph.resize((side, side), Image.Resampling.BICUBIC).save(folder / "one.jpg", quality=95)
        child = subprocess.Popen(
            [sys.executable, "-m", "data_prep", f"--images={folder}", f"--output={folder / 'out'}", "--workers=1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, _, usage = os.wait4(child.pid, 0)
        peak, pixels = usage.ru_maxrss * 1024, side * side
        smallest = smallest or (peak, pixels)
        slope = (
            f", {(peak - smallest[0]) / (pixels - smallest[1]):.0f} bytes per additional pixel"
            if megapixels > 1
            else ""
        )
        print(f"peak memory at {megapixels:4} megapixels: {peak / 2**20:5.0f} MiB{slope}")


if __name__ == "__main__":
    main()
