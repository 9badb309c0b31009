"""Few-shot episodes from a stack of labeled images: N ways, K shots, drawn on the device inside `jit` (Vinyals et al. 2016)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cmlcore.bilevel import Task


class Examples(NamedTuple):
    """Examples of one episode.

    images:  (examples, height, width) float32, ink = 1; or (examples, height, width, 3), colors.
    labels:  (examples,) int, 0 to ways - 1, the episode's own numbering.
    support: the episode's support images, of the same form, for networks that normalize by them.
    """

    images: jax.Array
    labels: jax.Array
    support: jax.Array


def episode(key, images, ways: int, shots: int, queries: int = 15) -> Task:
    """One random task: `ways` classes, `shots` support and `queries` other query examples of each.

    images: (classes, drawings, height, width) uint8, 0 to 255, or the same with a trailing axis of 3 for colors. Keep them
    on the device (`jnp.asarray` once): only the drawn ones are converted to float. The other numbers are static. The same
    key gives the same episode.

    Returns a `Task` of `Examples`, ordered by class. Raises ValueError for more ways than classes, for shots + queries
    beyond the drawings of a class, and for images of another shape or dtype.
    """
    if images.ndim not in (4, 5) or images.dtype != jnp.uint8:
        raise ValueError(
            f"images have shape {images.shape} and dtype {images.dtype}; an episode draws from (classes, drawings, height, "
            "width), or the same with colors, (..., 3), in uint8: such as load().images[split.train]."
        )
    classes, drawings, *picture = images.shape
    if min(ways, shots, queries) < 1:
        raise ValueError(f"ways is {ways}, shots {shots}, queries {queries}; an episode needs at least one of each.")
    if ways > classes:
        raise ValueError(f"ways is {ways}, but there are {classes} classes: ask for at most {classes}.")
    if shots + queries > drawings:
        raise ValueError(
            f"{shots} shots and {queries} queries need {shots + queries} drawings of a class, and there are {drawings}: "
            f"ask for at most {drawings - shots} queries with {shots} shots."
        )
    which, *each = jax.random.split(key, ways + 1)
    chosen = jax.random.choice(which, classes, (ways,), replace=False)
    drawn = jnp.stack([jax.random.permutation(k, drawings)[: shots + queries] for k in each])
    picked = images[chosen[:, None], drawn] * jnp.float32(1 / 255)
    labels = jnp.arange(ways)

    def examples(part, count):
        return part.reshape(-1, *picture), jnp.repeat(labels, count)

    support, support_labels = examples(picked[:, :shots], shots)
    return Task(Examples(support, support_labels, support), Examples(*examples(picked[:, shots:], queries), support))
