"""Random distortions of images, to have more of them: turned, sheared, stretched and moved a little (Simard et al. 2003)."""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates


def distorted(key, images, strength) -> jax.Array:
    """A distorted copy of each image, (images, height, width) or with colors, (..., 3); beyond the edge, its last pixel goes on.

    strength: a scalar, traced or not; at 1 turned by up to 15 degrees, sheared and stretched by up to a fifth, and moved by up to a tenth of the
    picture, each drawn uniformly; at 0 nothing changes. Bilinear.
    """
    count, height, width = images.shape[:3]
    draw = strength * jax.random.uniform(key, (count, 6), minval=-1.0, maxval=1.0)
    middle = jnp.array([(height - 1) / 2, (width - 1) / 2])
    grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1) - middle

    def one(image, amount):
        angle, shear, stretch, moved = amount[0] * jnp.pi / 12, amount[1] / 5, jnp.exp(amount[2:4] / 5), amount[4:] * height / 10
        turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
        matrix = turn @ jnp.array([[1.0, shear], [0.0, 1.0]]) * stretch
        at = grid @ matrix.T + middle + moved
        sample = lambda channel: map_coordinates(channel, [at[..., 0], at[..., 1]], order=1, mode="nearest")
        return sample(image) if image.ndim == 2 else jax.vmap(sample, -1, -1)(image)

    return jax.vmap(one)(images, draw)


def flipped(key, images) -> jax.Array:
    """Every image, (images, height, width, 3), or its mirror image, at random."""
    turned = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(turned, images[:, :, ::-1], images)
