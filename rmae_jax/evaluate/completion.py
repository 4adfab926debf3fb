"""Region completion: how well a model extends a region from a few visible patches, and what simple rules would do."""

import dataclasses
import itertools
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int32
from scipy import ndimage

from rmae_jax.completion import candidate_regions, complete, repeated
from rmae_jax.data import DatasetError, TFRecordSource
from rmae_jax.data.examples import center_view, decode
from rmae_jax.evaluate.evaluation_data import EvaluationData
from rmae_jax.model import RMAE, Mask
from rmae_jax.segmentation_scores import boundary, boundary_f, iou

VISIBLE_RATIOS = (0.05, 0.1, 0.25, 0.5)
SCORES = ("iou", "boundary_f")
METHODS = ("model", "nearest", "constant")
BATCH_SIZE = 32
Scores = dict[tuple[str, str], list[float]]  # of regions, by method and score


@dataclasses.dataclass(frozen=True)
class Question:
    """A photograph, some of its regions, and the order in which its patches become visible."""

    image: np.ndarray
    regions: Bool[np.ndarray, "regions height width"]
    permutation: Int32[np.ndarray, " patches"]


@dataclasses.dataclass(frozen=True)
class CompletionTask:
    """Completes regions of held-out photographs from 5 to 50 % of the patches.

    Of each photograph (centre crop), up to K regions that cover 1-90 % of it are asked for, drawn by (seed, record),
    as is the order of the patches; the same patches of photograph and regions are visible, as in pre-training. Regions
    of which no pixel is visible, or none hidden, are not asked for. Two rules are asked the same:

    - "nearest": a hidden pixel is in the region if the nearest visible pixel is;
    - "constant": all hidden pixels are inside. It is the best constant: with none inside, the intersection is empty.

    Attributes:
      limit: ask about the first so many photographs only; 0 for all.
    """

    limit: int = 0

    def __call__(self, model: RMAE, data: EvaluationData) -> dict[str, dict[str, float | int | None]]:
        """Judges on `held`, with the true regions in its chosen layers; `train` is not looked at.

        Returns:
          For each visible ratio, as "5%": num_regions; METHOD_iou, the mean over regions of the intersection over union
          of hidden pixels; METHOD_boundary_f, that of the boundary F measure there, of regions that have a boundary
          there.

        Raises:
          ValueError: the model has no region branch.
          DatasetError: the photographs have no regions, or are damaged.
        """
        held, seed = data.held, data.seed
        if model.config.objective == "mae":
            raise ValueError('region completion needs a region branch; the "mae" objective has none')
        if not held.layer_ids:
            raise DatasetError(f"{held.folder}: split {held.split!r} has no region maps; prepare it with --regions")
        scores = {ratio: {pair: [] for pair in itertools.product(METHODS, SCORES)} for ratio in VISIBLE_RATIOS}
        records = range(min(self.limit, len(held)) if self.limit else len(held))
        for first in records[::BATCH_SIZE]:
            data.report(first, len(records))
            asked = [_question(held, record, model, seed) for record in records[first : first + BATCH_SIZE]]
            asked = [question for question in asked if len(question.regions)]
            for ratio in VISIBLE_RATIOS if asked else ():
                for question, completed, hidden in _completed(model, asked, ratio):
                    _judge(question, completed, hidden, scores[ratio])
        data.report(len(records), len(records))
        if not any(scores[VISIBLE_RATIOS[-1]]["model", "iou"]):
            raise DatasetError(f"{held.folder}: split {held.split!r} has no regions of 1 to 90 % of an image")
        return {f"{ratio:.0%}": _summary(of_ratio) for ratio, of_ratio in scores.items()}


def _summary(scores: Scores) -> dict[str, float | int | None]:
    means = {f"{method}_{score}": float(np.mean(all_)) if all_ else None for (method, score), all_ in scores.items()}
    return {"num_regions": len(scores["model", "iou"]), **means}


def _question(source: TFRecordSource, record: int, model: RMAE, seed: int) -> Question:
    image, layers = center_view(*decode(source, record, True), model.config.image_size)
    rng = np.random.default_rng((seed, record))
    patches = (model.config.image_size // model.config.patch_size) ** 2
    permutation = rng.permutation(patches).astype(np.int32)
    found = candidate_regions(layers)
    drawn = [found[i] for i in rng.permutation(len(found))[: model.config.num_regions]]
    regions = np.array([layers[layer] == label for layer, label, _ in drawn], bool).reshape(-1, *image.shape[:2])
    return Question(image, regions, permutation)


def _completed(
    model: RMAE, asked: list[Question], ratio: float
) -> Iterator[tuple[Question, Bool[np.ndarray, "regions height width"], Bool[np.ndarray, "height width"]]]:
    """Each question with its completed regions and the hidden pixels."""
    most = model.config.num_regions
    maps = np.zeros((BATCH_SIZE, most, *asked[0].image.shape[:2]), np.float32)
    images = np.zeros((BATCH_SIZE, *asked[0].image.shape), np.uint8)
    permutation = np.tile(asked[0].permutation, (BATCH_SIZE, 1))  # one batch size, so that little is compiled
    for i, question in enumerate(asked):
        images[i], permutation[i] = question.image, question.permutation
        maps[i] = repeated(question.regions, most)
    mask = Mask(jnp.asarray(permutation), max(1, round(ratio * permutation.shape[1])))
    completed = complete(model, images, maps, mask, mask)
    for i, question in enumerate(asked):
        yield question, completed.regions[i, : len(question.regions)] > 0.5, completed.hidden[i]


def _judge(
    question: Question,
    completed: Bool[np.ndarray, "regions height width"],
    hidden: Bool[np.ndarray, "height width"],
    scores: Scores,
) -> None:
    nearest = ndimage.distance_transform_edt(hidden, return_distances=False, return_indices=True)
    for truth, made in zip(question.regions, completed, strict=True):
        if not truth[~hidden].any() or not truth[hidden].any():
            continue
        has_boundary = (boundary(truth) & hidden).any()
        answers = {"model": made, "nearest": truth[*nearest], "constant": truth | hidden}
        for method, answer in answers.items():
            scores[method, "iou"].append(iou(answer, truth, hidden))
            if has_boundary:
                scores[method, "boundary_f"].append(boundary_f(answer, truth, hidden))
