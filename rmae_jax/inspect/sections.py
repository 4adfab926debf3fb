"""The sections of the page: what each one shows of a model and some photographs."""

from collections.abc import Callable, Sequence

from rmae_jax.inspect import captions
from rmae_jax.inspect.attention import attention_maps, draw_attention
from rmae_jax.inspect.features import PatchFeatures, image_features, patch_features
from rmae_jax.inspect.html_page import Picture, Section
from rmae_jax.inspect.neighbours import draw_nearest_images, draw_nearest_patches, nearest_images, nearest_patches
from rmae_jax.inspect.pca import draw_pca, pca_colours, principal_components
from rmae_jax.inspect.queries import draw_query_similarity, query_similarity, region_queries, why_no_queries
from rmae_jax.inspect.reconstruction import draw_reconstruction, reconstruct
from rmae_jax.inspect.region_completion import RegionCompletion, complete_regions, draw_region_completion
from rmae_jax.inspect.similarity import draw_patch_similarity, patch_similarity, spread_patches
from rmae_jax.model import RMAE
from rmae_jax.photographs import Photograph

Report = Callable[[int, int], None]


class PageSections:
    """The sections of the page for one model and some photographs; each method builds one.

    Args:
      model: a model of any objective.
      photographs: the photographs to show, at least one.
      mask_ratio: fraction of the patches that is masked; None for the model's.
      seed: decides which patches are masked and which regions are drawn.
      block: index of the encoder block whose attention is drawn.
      report: called with the number of steps done and their total.
    """

    def __init__(
        self,
        model: RMAE,
        photographs: Sequence[Photograph],
        mask_ratio: float | None,
        seed: int,
        block: int,
        report: Report,
    ):
        self.model, self.photographs, self.block = model, photographs, block
        self.mask_options = {"mask_ratio": mask_ratio, "seed": seed}
        self._report = report
        self._features: list[PatchFeatures] = []
        self._completions: list[RegionCompletion] = []

    def sections(self) -> list[Section]:
        """Builds all sections; one that the model cannot fill is a line that says why.

        Raises:
          ValueError: the mask ratio or the block does not fit the model, or there are too few patches for PCA.
        """
        makers = (
            self.reconstructions,
            self.region_completions,
            self.attention,
            self.pca,
            self.patch_similarity,
            self.queries,
            self.nearest_images,
            self.nearest_patches,
        )
        total, made = len(makers) + 1, []
        for done, make in enumerate(makers):
            self._report(done, total)
            made.append(make())
        self._report(len(makers), total)
        return made

    @property
    def features(self) -> list[PatchFeatures]:
        """The patch features of each photograph."""
        if not self._features:
            self._features = [patch_features(self.model, one.image) for one in self.photographs]
        return self._features

    @property
    def completions(self) -> list[RegionCompletion]:
        """The completed regions of each photograph."""
        if not self._completions:
            self._completions = [complete_regions(self.model, one, **self.mask_options) for one in self.photographs]
        return self._completions

    def reconstructions(self) -> Section:
        """Builds the section on reconstruction from visible patches."""
        title = "Reconstruction"
        if self.model.config.objective == "rae":
            return Section(title, (), omitted=[captions.NO_PIXELS])
        text = [captions.RECONSTRUCTION, *[captions.NORMALISED] * self.model.config.norm_pix_loss]
        pictures = []
        for one in self.photographs:
            made = reconstruct(self.model, one, **self.mask_options)
            alt = f"{one.name}: the photograph, its visible patches, and the reconstruction"
            pictures.append(Picture(draw_reconstruction(one, made), one.name, alt))
        return Section(title, text, pictures)

    def region_completions(self) -> Section:
        """Builds the section on completion of regions from visible patches."""
        title = "Region completion"
        if self.model.config.objective == "mae":
            return Section(title, (), omitted=[captions.NO_BRANCH])
        text = [captions.REGION_COMPLETION, captions.IOU]
        pictures, omitted = [], []
        for one, made in zip(self.photographs, self.completions, strict=True):
            if not len(made.regions):
                omitted.append(captions.NO_REGIONS.format(one.name))
                continue
            figure = draw_region_completion(one, made)
            scores = ", ".join(f"{value:.2f}" for value in made.iou[:3])
            alt = f"{one.name}: regions, their visible part, the completed part, and the truth; IoU {scores}"
            pictures.append(Picture(figure, one.name, alt))
        return Section(title, text, pictures, omitted)

    def attention(self) -> Section:
        """Builds the section on the cls token's attention, by head."""
        depth = self.model.config.depth
        text = [captions.ATTENTION.format(self.block % depth + 1, depth)]
        pictures = []
        for one in self.photographs:
            maps = attention_maps(self.model, one.image, block=self.block)
            alt = f"{one.name}: the photograph, the mean attention of {len(maps)} heads, and that of each head"
            pictures.append(Picture(draw_attention(one, maps), one.name, alt))
        return Section("Attention", text, pictures)

    def pca(self) -> Section:
        """Builds the section on principal components of patch features, shown as colours."""
        fitted = principal_components(self.features)
        explained = [f"{part:.0%}" for part in fitted.explained]
        text = [captions.PCA.format(*explained)]
        pictures = [
            Picture(
                draw_pca(one, colours), one.name, f"{one.name}: the photograph and its patches' features as colours"
            )
            for one, colours in zip(self.photographs, pca_colours(self.features, fitted), strict=True)
        ]
        return Section("PCA of features", text, pictures)

    def patch_similarity(self) -> Section:
        """Builds the section on the similarity of patches within each photograph."""
        pictures = []
        for one, patches in zip(self.photographs, self.features, strict=True):
            chosen = spread_patches(patches)
            maps = [patch_similarity(patches, patch) for patch in chosen]
            alt = f"{one.name}: the photograph with {len(chosen)} framed patches, and the similarity of all to each"
            pictures.append(Picture(draw_patch_similarity(one, chosen, maps), one.name, alt))
        return Section("Patch similarity", [captions.PATCH_SIMILARITY], pictures)

    def queries(self) -> Section:
        """Builds the section on the similarity of region queries."""
        title = "Region queries"
        if reason := why_no_queries(self.model):
            return Section(title, (), omitted=[f"Omitted: {reason}."])
        pictures, omitted = [], []
        for one, made in zip(self.photographs, self.completions, strict=True):
            if not len(made.regions):
                omitted.append(captions.NO_REGIONS.format(one.name))
                continue
            similarity = query_similarity(region_queries(self.model, one, made.regions, **self.mask_options))
            alt = f"{one.name}: {len(similarity)} numbered regions, and the similarity matrix of their queries"
            pictures.append(Picture(draw_query_similarity(one, made.regions, similarity), one.name, alt))
        return Section(title, [captions.QUERIES], pictures, omitted)

    def nearest_images(self) -> Section:
        """Builds the section on the photographs that are nearest to each one."""
        title = "Nearest photographs"
        if len(self.photographs) < 2:
            return Section(title, (), omitted=[captions.NO_OTHERS])
        nearest, similarity = nearest_images(image_features(self.features))
        pictures = []
        for i, one in enumerate(self.photographs):
            names = ", ".join(self.photographs[other].name for other in nearest[i])
            figure = draw_nearest_images(self.photographs, i, nearest[i], similarity[i])
            pictures.append(Picture(figure, one.name, f"{one.name} and its nearest photographs: {names}"))
        return Section(title, [captions.NEAREST_PHOTOGRAPHS], pictures)

    def nearest_patches(self) -> Section:
        """Builds the section on the patches that are nearest to each photograph's middle one."""
        title = "Nearest patches"
        if len(self.photographs) < 2:
            return Section(title, (), omitted=[captions.NO_OTHERS])
        pictures = []
        for i, (one, patches) in enumerate(zip(self.photographs, self.features, strict=True)):
            patch = spread_patches(patches)[1]
            found = nearest_patches(self.features, i, patch)
            figure = draw_nearest_patches(self.photographs, i, patch, found, self.model.config.patch_size)
            names = ", ".join(self.photographs[which].name for which in found.places[:, 0])
            pictures.append(Picture(figure, one.name, f"{one.name}: a patch and its nearest patches, in {names}"))
        return Section(title, [captions.NEAREST_PATCHES], pictures)
