"""Captions of the page: what its pictures show, and how they are computed."""

RECONSTRUCTION = (
    "Left: the photograph. Middle: its visible patches. Right: the visible patches, with the model's prediction in "
    "place of the masked ones."
)
NORMALISED = (
    "As in MAE, the model predicts each patch only up to the patch's own mean and contrast. For the picture, the mean "
    "and contrast of a masked patch are interpolated from the visible patches, never taken from the original."
)
REGION_COMPLETION = (
    "Each row shows the outline of a region, its visible part (masked patches are gray), the model's completion, and "
    "the truth. The model sees the visible part of the region and the visible patches of the photograph. The true "
    "regions come from Felzenszwalb-Huttenlocher segmentation of the photograph; they are not objects that a person "
    "annotated. Regions that cover 1 to 90 % of the picture are drawn at random, and the largest of them are shown."
)
IOU = (
    "IoU is the intersection over union of the true region and the completed one (probability above one half), in "
    "masked patches only. A region that simply continues beyond its visible part is easy to complete."
)
ATTENTION = (
    "Attention of the cls token to each patch in block {} of {}, by head; no patch is masked. Each map is scaled from "
    "0 to its own largest weight. The percentage is the share of attention that goes to patches; the rest goes to the "
    "cls token itself. No pre-training loss applies to the cls token directly, so bright patches are those it attends "
    "to, not necessarily those that matter."
)
PCA = (
    "The first three principal components of the encoder's patch features, shown as red, green and blue. They are "
    "fitted to all photographs on this page together: similar colours mean similar features, across photographs too. "
    "They explain {}, {} and {} of the variance. Smooth gradients over a whole picture indicate that the features "
    "encode the position of a patch as well as its content."
)
PATCH_SIMILARITY = (
    "Cosine similarity of a framed patch's features with those of every patch of the photograph. Each map is scaled "
    "from its smallest value, printed below it, to 1."
)
QUERIES = (
    "Cosine similarity of the queries that the region branch computes for a photograph's regions, outlined and "
    "numbered. A query depends only on the visible part of its region's map: it encodes place and shape, not what the "
    "photograph shows there."
)
NEAREST_PHOTOGRAPHS = (
    "For each photograph, the most similar other photographs, by the cosine similarity of their mean patch features."
)
NEAREST_PATCHES = (
    "For the patch in the middle of each photograph, the most similar patches of the other photographs, by the cosine "
    "similarity of their features. Each patch is framed within its surroundings."
)
LOSSES = (
    "Training losses, computed over masked patches of training images. The dotted line marks the step of this page's "
    "checkpoint."
)

NO_PIXELS = 'Omitted: the "rae" objective has no pixel decoder.'
NO_BRANCH = 'Omitted: the "mae" objective has no region branch.'
NO_REGIONS = "{}: no regions cover 1 to 90 % of the picture."
NO_OTHERS = "Omitted: at least two photographs are needed."
NO_LOSSES = "Omitted: the run has no metrics.jsonl to draw losses from."
