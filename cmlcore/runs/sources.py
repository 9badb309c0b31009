"""Where the images of the full experiments at full size come from: characters and photographs behind one interface."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cmlcore.bilevel import Task
from cmlcore.data.distortion import distorted, flipped
from cmlcore.runs import modulation_images
from cmlcore.runs.characters import drawings


class Source(NamedTuple):
    """images:  `settings -> (train, validation, test)`, each (classes, images, size, size) or with colors, uint8, on the device.
    prepare: what the network is given of an episode's images.
    distort: `(key, images, strength) -> images`, done to every image while training.
    colors:  how many channels they have. ways: of the exams, the first one the harder.
    """

    images: Callable
    prepare: Callable
    distort: Callable
    colors: int
    ways: tuple[int, ...]


def _characters(settings):
    train, validation, test = drawings(settings.split, settings.size)
    if settings.whole:
        train = jnp.concatenate([train, *(jnp.rot90(validation, turns, axes=(-2, -1)) for turns in range(4))])
    return (jnp.concatenate([train, train[..., ::-1]]) if settings.mirrored else train), validation, test


def _photographs(source: modulation_images.Source) -> Source:
    def images(settings):
        if settings.whole or settings.mirrored:
            raise ValueError("photographs are mirrored while training, and their validation classes have fewer images each: leave whole and mirrored False.")
        return source.images(settings.size)

    def distort(key, images, strength):
        one, other = jax.random.split(key)
        return flipped(one, distorted(other, images, strength))

    return Source(images, source.prepare, distort, 3, (5,))


SOURCES = {
    "omniglot": Source(_characters, lambda images: images, distorted, 1, (20, 5)),
    "cifar-fs": _photographs(modulation_images.CIFAR_FS),
    "mini-imagenet": _photographs(modulation_images.MINI_IMAGENET),
}


def exams(source: Source) -> dict[str, tuple[int, int]]:
    """(ways, shots) of every exam by name, such as `20w1s`."""
    return {f"{ways}w{shots}s": (ways, shots) for ways in source.ways for shots in (1, 5)}


def distorting(settings, key, task: Task) -> Task:
    """A training episode, a `Task` of `cmlcore.data.episodes.Examples`, with every image distorted by `settings.distortion`."""
    distort = SOURCES[settings.source].distort
    support, query = (distort(k, part.images, settings.distortion) for k, part in zip(jax.random.split(key), task))
    return Task(task.support._replace(images=support, support=support), task.query._replace(images=query, support=support))
