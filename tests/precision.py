"""Single or double precision, for as long as a block lasts, in every version of JAX."""

from contextlib import contextmanager

import jax


@contextmanager
def precision(double: bool):
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", double)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)
