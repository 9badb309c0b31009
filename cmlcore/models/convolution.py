"""3x3 convolution with weights of their own for every task: a bilinear operation whose derivatives are convolutions again.

For images x, kernel w, and a gradient g of the output:

    d/dx sum(g * convolve(x, w)) = convolve(g, turned(w)),      d/dw sum(g * convolve(x, w)) = correlate(x, g)

so two operations are closed under derivatives of every order, forward and in reverse. Both are JAX primitives here,
which any `Form` computes. What JAX would derive by itself is right too, but slow: XLA's CPU compiler takes the
derivatives of its own convolution for general ones inside a loop, and the derivative of patches is nine scattered sums.
This book's own; patches are those of Chellapilla et al. 2006. Times: `make bench`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


class Form(NamedTuple):
    """How both operations are computed, with tasks along a leading axis; padding is 1, a kernel's taps lie row by row.

    convolve:  x (tasks, images, height, width, in), w (tasks, 9 in, out) -> (tasks, images, height, width, out).
    correlate: x as above, g (tasks, images, height, width, out) -> (tasks, 9 in, out), the gradient of a kernel.
    """

    convolve: Callable
    correlate: Callable


def convolution(form: Form | None = None) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`(x, w) -> y` for x (images, height, width, in), w (9 in, out), y (images, height, width, out), computed by `form`.

    Without a `form`, `fastest()` is asked when JAX traces. `vmap` hands all tasks to the form at once; where they
    share one kernel, as more images of one task.
    """

    def convolve(x, w):
        dtype = jnp.result_type(x, w)
        x, w = x.astype(dtype), w.astype(dtype)
        return _convolve.bind(x[None], w[None], form=form or fastest())[0]

    return convolve


def fastest() -> Form:
    """The form for the machine at hand, this book's choice: tasks `in_turn` on a CPU, `products` elsewhere.

    Measured by `make bench` on a CPU, where `in_turn` wins from some 32 filters on and costs 10 to 25 % below; on a GPU not yet.
    """
    return in_turn if jax.default_backend() == "cpu" else products


# --- Two primitives ---------------------------------------------------------------------------------------------------


def _primitive(name: str) -> Primitive:
    """A bilinear operation that the field `name` of its parameter `form` computes; in a page, always `products`."""
    primitive = Primitive(name)
    primitive.plain = lambda a, b: getattr(products, name)(a, b)  # type: ignore[attr-defined]

    def compute(a, b, *, form):
        return getattr(form, name)(a, b)

    def abstract(a, b, *, form):
        made = jax.eval_shape(lambda a, b: compute(a, b, form=form), *(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in (a, b)))
        return a.update(shape=made.shape, dtype=made.dtype)

    primitive.def_impl(jax.jit(compute, static_argnames="form"))
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(compute, multiple_results=False))
    return primitive


_convolve, _correlate = _primitive("convolve"), _primitive("correlate")


def _turned(w):
    """Kernels (tasks, 9 in, out) turned by half a turn, inputs and outputs exchanged: (tasks, 9 out, in)."""
    tasks, rows, out = w.shape
    return w.reshape(tasks, 3, 3, rows // 9, out)[:, ::-1, ::-1].swapaxes(3, 4).reshape(tasks, 9 * out, rows // 9)


ad.defbilinear(
    _convolve,
    lambda g, x, w, form: _convolve.bind(g, _turned(w), form=form),
    lambda g, x, w, form: _correlate.bind(x, g, form=form),
)
ad.defbilinear(
    _correlate,
    lambda k, x, g, form: _convolve.bind(g, _turned(k), form=form),
    lambda k, x, g, form: _convolve.bind(x, k, form=form),
)


def _together(primitive, operands, axes, form):
    """More tasks: the new axis goes before the tasks and is merged with them."""
    size = next(a.shape[axis] for a, axis in zip(operands, axes) if axis is not None)
    moved = [jnp.broadcast_to(a, (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in zip(operands, axes)]
    out = primitive.bind(*(a.reshape(-1, *a.shape[2:]) for a in moved), form=form)
    return out.reshape(size, -1, *out.shape[1:]), 0


def _batched_convolve(operands, axes, *, form):
    x, w = operands
    if axes[1] is not None:
        return _together(_convolve, operands, axes, form)
    x = jnp.moveaxis(x, axes[0], 1)  # one kernel for all: more images of each task
    y = _convolve.bind(x.reshape(len(x), -1, *x.shape[3:]), w, form=form)
    return y.reshape(*x.shape[:3], *y.shape[2:]), 1


batching.primitive_batchers[_convolve] = _batched_convolve
batching.primitive_batchers[_correlate] = lambda operands, axes, *, form: _together(_correlate, operands, axes, form)


# --- Forms ------------------------------------------------------------------------------------------------------------


def _xla(x, kernel, padding):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), preferred_element_type=_wide(x))


def _wide(x):
    """Sums are kept in float32 at least."""
    return jnp.promote_types(x.dtype, jnp.float32)


def _one(x, w):
    return _xla(x, w.reshape(3, 3, x.shape[-1], -1), ((1, 1), (1, 1)))


def _one_gradient(x, g):
    """The gradient of a kernel is a convolution too, of channels as images with a window as large as the image."""
    taps = _xla(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), ((1, 1), (1, 1)))
    return taps.transpose(1, 2, 0, 3).reshape(-1, g.shape[-1])


def _in_turn(f):
    return lambda a, b: f(a[0], b[0])[None] if len(a) == 1 else jax.lax.map(lambda pair: f(*pair), (a, b))


def _shifts(x):
    """The nine shifted copies of images (tasks, images, height, width, in), zeros beyond the edge."""
    _, _, h, w, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    return [padded[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3)]


def _times(x, w):
    """Every pixel's channels times the task's matrix."""
    return jnp.einsum("tnhwi,tio->tnhwo", x, w, preferred_element_type=_wide(x))


def _against(x, g):
    return jnp.einsum("tnhwi,tnhwo->tio", x, g, preferred_element_type=_wide(x))


def _patches(x):
    return jnp.concatenate(_shifts(x), axis=-1)


def _sum_of_products(x, w):
    taps = w.reshape(len(w), 9, -1, w.shape[-1])
    return sum(_times(shifted, taps[:, k]) for k, shifted in enumerate(_shifts(x)))


in_turn = Form(_in_turn(_one), _in_turn(_one_gradient))
"""XLA's convolution, one task after the other."""
grouped = Form(jax.vmap(_one), jax.vmap(_one_gradient))
"""XLA's convolution for all tasks at once, which it calls a grouped one."""
products = Form(lambda x, w: _times(_patches(x), w), lambda x, g: _against(_patches(x), g))
"""One batched product of all patches with the kernels."""
shifted = Form(_sum_of_products, lambda x, g: jnp.concatenate([_against(s, g) for s in _shifts(x)], axis=1))
"""Nine batched products of shifted images, and their sum."""


def rounded(form: Form, dtype=jnp.bfloat16) -> Form:
    """The form with both operands rounded to `dtype`, sums and results in float32; weights stay what they are (Micikevicius et al. 2018)."""
    inside = lambda f: lambda a, b: f(a.astype(dtype), b.astype(dtype)).astype(a.dtype)
    return Form(inside(form.convolve), inside(form.correlate))
