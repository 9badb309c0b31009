"""Linear algebra on pytrees: the few operations that the estimators share; of this book.

Arguments are trees of arrays of one structure, of any shapes.
"""

import jax
import jax.numpy as jnp


def add(a, b):
    """`a + b`, leaf by leaf."""
    return jax.tree.map(jnp.add, a, b)


def sub(a, b):
    """`a - b`, leaf by leaf."""
    return jax.tree.map(jnp.subtract, a, b)


def scale(c, a):
    """`c * a` for a scalar `c`, each leaf keeping its dtype."""
    return jax.tree.map(lambda x: jnp.asarray(c, x.dtype) * x, a)


def dot(a, b):
    """The inner product of two trees of the same shape, a scalar. Half precision is added up in single: its squares overflow at 256."""
    wide = lambda x: jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))
    return sum(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(wide(x) * wide(y)), a, b)), start=jnp.zeros(()))


def norm(a):
    """The Euclidean norm of a tree seen as one vector."""
    return jnp.sqrt(dot(a, a))


def mean(a):
    """The mean over the leading axis of every leaf (a meta-batch becomes one gradient)."""
    return jax.tree.map(lambda x: jnp.mean(x, axis=0), a)


def cosine(a, b):
    """The cosine of the angle between two trees; 0 where either of them is zero."""
    size = norm(a) * norm(b)
    return jnp.where(size > 0, dot(a, b) / jnp.where(size > 0, size, 1), 0)


def relative_error(a, exact):
    """`|a - exact| / |exact|`; infinite where `exact` is zero and `a` is not."""
    return norm(sub(a, exact)) / norm(exact)


def all_finite(a):
    """Whether every number in the tree is finite, a boolean scalar."""
    return jax.tree.reduce(lambda ok, x: ok & jnp.all(jnp.isfinite(x)), a, jnp.asarray(True))


def epsilon(a) -> float:
    """The largest rounding step, relative to 1, among the formats of a tree of real numbers; complex ones have their parts'."""
    return max((float(jnp.finfo(jnp.result_type(x)).eps) for x in jax.tree.leaves(a)), default=0.0)


def require_real(name: str, a) -> None:
    """Raise TypeError, naming the leaf, where the tree `a`, called `name`, holds anything but real numbers."""
    for path, x in jax.tree_util.tree_leaves_with_path(a):
        if not isinstance(x, float) and not jnp.issubdtype(getattr(x, "dtype", type(None)), jnp.inexact):
            what = f"holds {x.dtype} numbers" if hasattr(x, "dtype") else f"is a {type(x).__name__}"
            raise TypeError(
                f"{name}{jax.tree_util.keystr(path)} {what}, and {name} is a tree of arrays of real numbers. Keep what is none outside of it: "
                "`eqx.partition(model, eqx.is_inexact_array)` parts an equinox module, `nnx.split(model, nnx.Param, ...)` one of flax."
            )


def not_finite(a) -> list[str]:
    """Where in a tree, as paths, arrays of real numbers are not finite."""
    real = lambda x: jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    return [jax.tree_util.keystr(path) for path, x in jax.tree_util.tree_leaves_with_path(a) if real(x) and not jnp.all(jnp.isfinite(x))]


def is_complex(a) -> bool:
    """Whether a leaf of the tree is complex."""
    return any(jnp.iscomplexobj(x) for x in jax.tree.leaves(a))
