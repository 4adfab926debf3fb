"""What a page says of how its pictures were made."""

RECONSTRUCTION = "Left: the photograph; middle: its visible patches; right: these, and the hidden ones as predicted."
NORMALISED = (
    "The model predicts each patch up to its own mean and contrast, as MAE does. In the picture, mean and contrast "
    "of a hidden patch are interpolated from the visible patches; they are never taken from the truth."
)
REGION_COMPLETION = (
    "A region's visible part (gray: hidden), what the model makes of it and of the photograph's visible patches, "
    "and the truth: a region that the Felzenszwalb-Huttenlocher method finds in the photograph, not an object that "
    "a person has drawn. Regions of 1 to 90 % of the picture are drawn at random; the largest of them are shown."
)
IOU = (
    "IoU is intersection over union in hidden patches, of the truth and of what the model gives more than half a "
    "chance. A region that goes on as it began is easy to complete."
)
ATTENTION = (
    "What the cls token takes from each patch in block {} of {}, by head, of the whole photograph. Each map is "
    "scaled from 0 to its own largest weight; the number is the part that goes to patches, the rest stays with cls. "
    "In pre-training no loss asks the cls token for anything: bright is what it looks at, not what is important."
)
PCA = (
    "The first three principal components of the encoder's patch features as red, green and blue, fitted to all "
    "photographs of this page together: like colours are like features, across photographs too. They hold {}, {} "
    "and {} of the variance. Smooth gradients over a whole picture tell that the features hold where a patch is, "
    "besides what it shows."
)
PATCH_SIMILARITY = (
    "The cosine similarity of a framed patch's features with those of every patch of the photograph. Each map is "
    "scaled from its smallest value, which is given, to 1."
)
QUERIES = (
    "The cosine similarity of the queries that the region branch makes of a photograph's regions, outlined and "
    "numbered. A query is made of the visible part of a region's map alone: it tells of place and shape, not of "
    "what the photograph shows there."
)
NEAREST_PHOTOGRAPHS = (
    "Of each photograph the most similar others: cosine similarity of the mean of the patches' features."
)
NEAREST_PATCHES = (
    "Of the patch in the middle of each photograph the most similar ones in the other photographs, framed within "
    "their surroundings: cosine similarity of the features."
)
LOSSES = "The losses over masked patches of training images. The dotted line is the step of this page."

NO_PIXELS = 'Left out: the "rae" objective has no pixel decoder.'
NO_BRANCH = 'Left out: the "mae" objective has no region branch.'
NO_REGIONS = "{}: no regions of 1 to 90 % of the picture."
NO_OTHERS = "Left out: it needs at least two photographs."
NO_LOSSES = "The run has no metrics.jsonl to draw losses from."
