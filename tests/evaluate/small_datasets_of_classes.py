"""What the photographs of the evaluations' tests show."""

import numpy as np

CLASSES = 3
COLOURS = ((220, 40, 40), (40, 220, 40), (40, 40, 220))


def photograph(rng: np.random.Generator, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A square of a colour on gray, with noise; and the pixels of the square."""
    image = np.full((48, 48, 3), 128) + rng.normal(0, 8, (48, 48, 3))
    top, left = rng.integers(4, 20, 2)
    inside = np.zeros((48, 48), bool)
    inside[top : top + 24, left : left + 24] = True
    image[inside] = np.array(colour) + rng.normal(0, 8, (inside.sum(), 3))
    return image.clip(0, 255).astype(np.uint8), inside
