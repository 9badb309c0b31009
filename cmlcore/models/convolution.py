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
import numpy as np
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
    """The form for the machine at hand, this book's choice: `winograd` on a CPU, one task after the other, `products` elsewhere.

    Measured by `make bench` on a CPU, where tasks in turn win from some 32 filters on and cost 10 to 25 % below; on a GPU not yet.
    """
    return winograd if jax.default_backend() == "cpu" else products


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


def patches(x):
    """The 3 x 3 neighborhood of every pixel, (images, height, width, in) to (images, height, width, 9 in), zeros beyond the edge."""
    return _patches(x[None])[0]


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


# --- Winograd's form: 16 products for 4 pixels where the others take 36 ------------------------------------------------


AT_ONCE = 12  # images whose tiles stay in a core's cache
WORTH = 14  # pixels to a side, and channels, below which XLA's convolution is as fast
_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)


def _both_ways(images, rows: Callable, columns: Callable, shape: tuple[int, int, int, int]):
    """One transform along the rows and then along the columns of every tile: (16, tiles, channels)."""
    return jnp.stack([v for row in rows(images) for v in columns(row)]).reshape(16, -1, shape[-1])


def _tiles(x):
    """The tiles of images, 4 x 4 pixels that overlap by two, transformed: (16, tiles, in)."""
    n, h, w, _ = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1 + h % 2), (1, 1 + w % 2), (0, 0)))
    mixed = lambda a, b, c, d: (a - c, b + c, c - b, b - d)
    rows = lambda x: mixed(*(x[:, i : i + h + h % 2 : 2] for i in range(4)))
    columns = lambda x: mixed(*(x[:, :, i : i + w + w % 2 : 2] for i in range(4)))
    return _both_ways(x, rows, columns, x.shape)


def _squares(g):
    """The 2 x 2 squares of a gradient, transformed as its tiles' products: (16, tiles, out)."""
    n, h, w, _ = g.shape
    g = jnp.pad(g, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
    mixed = lambda a, b: (a, a + b, a - b, -b)
    return _both_ways(g, lambda g: mixed(g[:, ::2], g[:, 1::2]), lambda g: mixed(g[:, :, ::2], g[:, :, 1::2]), g.shape)


def _pixels(products, n: int, h: int, w: int):
    """Products (16, tiles, out) back to images (n, h, w, out)."""
    across, down = -(-w // 2), -(-h // 2)
    pair = lambda a, b, c, d: (a + b + c, b - c - d)
    rows = pair(*products.reshape(4, 4, n, down, across, -1))
    y = jnp.stack([jnp.stack(pair(*row), 3) for row in rows], 2)
    return y.reshape(n, 2 * down, 2 * across, -1)[:, :h, :w]


def in_chunks(images: int) -> int:
    """How many images to take at a time: the largest number up to `AT_ONCE` that divides all."""
    return max(k for k in range(1, AT_ONCE + 1) if images % k == 0)


def _winograd_one(x, w):
    n, height, width, channels = x.shape
    if min(height, width, channels, w.shape[-1]) < WORTH:
        return _one(x, w)
    x, w, k = x.astype(_wide(x)), w.astype(_wide(w)), in_chunks(n)
    kernel = jnp.einsum("ai,bj,ijco->abco", _KERNEL, _KERNEL, w.reshape(3, 3, channels, -1)).reshape(16, channels, -1)
    some = lambda x: _pixels(jnp.einsum("ktc,kco->kto", _tiles(x), kernel), k, height, width)
    return jax.lax.map(some, x.reshape(-1, k, *x.shape[1:])).reshape(n, height, width, -1)


def _winograd_one_gradient(x, g):
    n, height, width, channels = x.shape
    if min(height, width, channels, g.shape[-1]) < WORTH:
        return _one_gradient(x, g)
    x, g, k, out = x.astype(_wide(x)), g.astype(_wide(g)), in_chunks(n), g.shape[-1]
    add = lambda total, pair: (total + jnp.einsum("ktc,kto->kco", _tiles(pair[0]), _squares(pair[1])), None)
    parts = (x.reshape(-1, k, *x.shape[1:]), g.reshape(-1, k, *g.shape[1:]))
    total = jax.lax.scan(add, jnp.zeros((16, channels, out), _wide(x)), parts)[0]
    return jnp.einsum("ai,bj,abco->ijco", _KERNEL, _KERNEL, total.reshape(4, 4, channels, out)).reshape(-1, out)


winograd = Form(_in_turn(_winograd_one), _in_turn(_winograd_one_gradient))
"""Winograd's minimal filtering F(2 x 2, 3 x 3) in chunks of images, one task after the other (Lavin & Gray 2016); XLA's convolution where that is as fast."""


def rounded(form: Form, dtype=jnp.bfloat16) -> Form:
    """The form with both operands rounded to `dtype`, sums and results in float32; weights stay what they are (Micikevicius et al. 2018)."""
    inside = lambda f: lambda a, b: f(a.astype(dtype), b.astype(dtype)).astype(a.dtype)
    return Form(inside(form.convolve), inside(form.correlate))
