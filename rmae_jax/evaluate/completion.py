"""Region completion: how well a model extends a region from a few visible patches, compared with simple rules."""

import dataclasses
import itertools
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int32
from scipy import ndimage

from rmae_jax.completion import candidate_regions, complete, repeat_regions
from rmae_jax.data import DatasetError, TFRecordSource
from rmae_jax.data.examples import center_view, check_records, decode
from rmae_jax.evaluate.evaluation_data import EvaluationData
from rmae_jax.model import RMAE, Mask
from rmae_jax.segmentation_scores import boundary, boundary_f, iou

VISIBLE_RATIOS = (0.05, 0.1, 0.25, 0.5)
SCORES = ("iou", "boundary_f")
METHODS = ("model", "nearest", "constant")
BATCH_SIZE = 32
Scores = dict[tuple[str, str], list[float]]  # one value per region, by (method, score)


@dataclasses.dataclass(frozen=True)
class CompletionExample:
    """An image, some of its regions, and the order in which its patches become visible."""

    image: np.ndarray
    regions: Bool[np.ndarray, "regions height width"]
    permutation: Int32[np.ndarray, " patches"]


@dataclasses.dataclass(frozen=True)
class CompletionTask:
    """Completion of regions of held-out images with 5, 10, 25 and 50 % of the patches visible.

    From each image (centre crop), up to num_regions regions that cover 1-90 % of it are drawn by (seed, record), as is
    the order of the patches. The same patches of the image and of its regions are visible, as in pre-training. Regions
    with no visible pixel, or with no hidden one, are skipped. Two simple rules complete the same regions:

    - "nearest": a hidden pixel is in the region if the nearest visible pixel is;
    - "constant": all hidden pixels are in the region. This is the best constant: with none, the intersection is empty.

    Attributes:
      limit: number of images to evaluate, from the first; 0 for all.
    """

    limit: int = 0

    def check(self, data: EvaluationData) -> None:
        """Checks the options, and that the dataset has what the task needs.

        Raises:
          ValueError: an option is out of range.
          DatasetError: a split has no images, or no regions.
        """
        if self.limit < 0:
            raise ValueError(f"limit is {self.limit}; it is a number of images, or 0 for all")
        check_records(data.held_out)
        if not data.held_out.layer_ids:
            raise DatasetError(
                f"{data.held_out.folder}: split {data.held_out.split!r} has no region maps; prepare it with --regions"
            )

    def __call__(self, model: RMAE, data: EvaluationData) -> dict[str, dict[str, float | int | None]]:
        """Evaluates on `held_out`, with the regions of its selected layers as the truth; `train` is not read.

        Returns:
          For each visible ratio, as "5%": num_regions; METHOD_iou, the mean over regions of the intersection over union
          of hidden pixels; METHOD_boundary_f, the mean boundary F measure of hidden pixels, over regions that have a
          boundary there.

        Raises:
          ValueError: the model has no region branch.
          DatasetError: the images have no regions, or a record is corrupt.
        """
        held_out, seed = data.held_out, data.seed
        if model.config.objective == "mae":
            raise ValueError('region completion needs a region branch; the "mae" objective has none')
        self.check(data)
        scores = {ratio: {pair: [] for pair in itertools.product(METHODS, SCORES)} for ratio in VISIBLE_RATIOS}
        records = range(min(self.limit, len(held_out)) if self.limit else len(held_out))
        for first in records[::BATCH_SIZE]:
            data.report(first, len(records))
            examples = [_load_example(held_out, record, model, seed) for record in records[first : first + BATCH_SIZE]]
            examples = [example for example in examples if len(example.regions)]
            for ratio in VISIBLE_RATIOS if examples else ():
                for example, completed, hidden in _complete_batch(model, examples, ratio):
                    _add_scores(example, completed, hidden, scores[ratio])
        data.report(len(records), len(records))
        if not any(scores[VISIBLE_RATIOS[-1]]["model", "iou"]):
            raise DatasetError(
                f"{held_out.folder}: split {held_out.split!r} has no regions that cover 1 to 90 % of an image"
            )
        return {f"{ratio:.0%}": _summary(of_ratio) for ratio, of_ratio in scores.items()}


def _summary(scores: Scores) -> dict[str, float | int | None]:
    means = {
        f"{method}_{score}": float(np.mean(values)) if values else None for (method, score), values in scores.items()
    }
    return {"num_regions": len(scores["model", "iou"]), **means}


def _load_example(source: TFRecordSource, record: int, model: RMAE, seed: int) -> CompletionExample:
    image, layers = center_view(*decode(source, record, True), model.config.image_size)
    rng = np.random.default_rng((seed, record))
    patches = (model.config.image_size // model.config.patch_size) ** 2
    permutation = rng.permutation(patches).astype(np.int32)
    found = candidate_regions(layers)
    drawn = [found[i] for i in rng.permutation(len(found))[: model.config.num_regions]]
    regions = np.array([layers[layer] == label for layer, label, _ in drawn], bool).reshape(-1, *image.shape[:2])
    return CompletionExample(image, regions, permutation)


def _complete_batch(
    model: RMAE, examples: list[CompletionExample], ratio: float
) -> Iterator[tuple[CompletionExample, Bool[np.ndarray, "regions height width"], Bool[np.ndarray, "height width"]]]:
    """Yields each example with its completed regions and the hidden pixels."""
    num_maps = model.config.num_regions
    maps = np.zeros((BATCH_SIZE, num_maps, *examples[0].image.shape[:2]), np.float32)
    images = np.zeros((BATCH_SIZE, *examples[0].image.shape), np.uint8)
    permutation = np.tile(examples[0].permutation, (BATCH_SIZE, 1))  # one batch size, to compile once per ratio
    for i, example in enumerate(examples):
        images[i], permutation[i] = example.image, example.permutation
        maps[i] = repeat_regions(example.regions, num_maps)
    mask = Mask(jnp.asarray(permutation), max(1, round(ratio * permutation.shape[1])))
    completed = complete(model, images, maps, mask, mask)
    for i, example in enumerate(examples):
        yield example, completed.regions[i, : len(example.regions)] > 0.5, completed.hidden[i]


def _add_scores(
    example: CompletionExample,
    completed: Bool[np.ndarray, "regions height width"],
    hidden: Bool[np.ndarray, "height width"],
    scores: Scores,
) -> None:
    nearest = ndimage.distance_transform_edt(hidden, return_distances=False, return_indices=True)
    for truth, made in zip(example.regions, completed, strict=True):
        if not truth[~hidden].any() or not truth[hidden].any():
            continue
        has_boundary = (boundary(truth) & hidden).any()
        answers = {"model": made, "nearest": truth[*nearest], "constant": truth | hidden}
        for method, answer in answers.items():
            scores[method, "iou"].append(iou(answer, truth, hidden))
            if has_boundary:
                scores[method, "boundary_f"].append(boundary_f(answer, truth, hidden))
