"""The sine network's free and nudged phase in one kernel, for a GPU: a step costs no launch and no trip to memory.

A step of this network is some 100,000 operations, a launch on a GPU costs more than that. Here one program of the kernel is one
task: weights, activations and Adam's moments stay on the chip for all steps of both phases, and only the two ends are written.
The mathematics is that of `cmlcore.speed.fast`, the same `backpropagate` and `adam_update`; what is added is padding, because the blocks of
Pallas on a GPU are powers of two and its matrix products at least 16 wide. Padded units have weights of zero and padded examples a
weight of zero: their gradients are zero and they stay where they are. Of this book; the one-kernel thought is that of persistent
recurrent networks (Diamos et al. 2016).
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from cmlcore.bilevel import Task, Theta
from cmlcore.speed import fast
from cmlcore.speed.fast import Adam, Rows, Thin

NARROWEST = 16  # of a matrix product on a GPU


def _sums(x, error, d1, d2, h2):
    over = lambda values: jnp.sum(values, axis=0)
    return over(x[:, None] * d1), over(d1), over(d2), over(error[:, None] * h2)


BY_SUMS = Thin(lambda h2, w3: jnp.sum(h2 * w3, axis=1), _sums)


def round_up(size: int) -> int:
    """The smallest power of two that is at least `size` and a matrix product's narrowest side, a number."""
    return max(NARROWEST, 1 << (size - 1).bit_length())


def pad(x):
    """An array of any shape, with zeros behind it along each axis up to `round_up` of its length."""
    return jnp.pad(x, [(0, round_up(n) - n) for n in x.shape])


def _six(theta):
    """The six arrays of a network as `fast.backpropagate` takes them, padded; the last bias stays (1,)."""
    packed = fast.pack(theta)
    w1, b1, b2, w3 = packed.rows
    return [*map(pad, (w1, b1, packed.middle, b2, w3)), packed.last]


def _network(six, width: int):
    """The inverse of `_six`, over a leading axis of tasks."""
    w1, b1, w2, b2, w3 = (x[:, :width] for x in six[:5])
    return jax.vmap(fast.unpack)(fast.Packed(jnp.stack([w1, b1, b2, w3], 1), w2[..., :width], six[5]))


def _two_phases(free: Adam, nudged: Adam, pull: float, *refs):
    """The kernel: reads omega and the examples of one task, learns twice, writes the two ends."""
    weights, examples, ends = refs[:6], refs[6:12], refs[12:]
    omega = [ref[...] for ref in weights[:5]] + [weights[5][0]]
    support, both = (Rows(*(ref[0] for ref in part)) for part in (examples[:3], examples[3:]))

    def learn(start, rows, adam):
        slope = lambda phi: fast.pulled(list(fast.backpropagate(*phi, rows, BY_SUMS)), phi, omega, pull)
        return fast.descend(start, slope, adam)

    first = learn(omega, support, free)
    second = learn(first, both, nudged)
    for part, end in ((ends[:6], first), (ends[6:], second)):
        for ref, value in zip(part[:5], end):
            ref[0] = value
        part[5][0, 0] = end[5]


def two_phases(theta: Theta, tasks: Task, free: Adam, nudged: Adam, pull: float, beta, interpret: bool = False):
    """Both phases of every task in one kernel launch: the ends `(phi_0, phi_beta)`, trees like theta with a leading axis of tasks.

    theta: parameters of `cmlcore.models.mlp`, widths (1, H, H, 1); learning starts at them and is pulled to them. tasks: along the
    leading axis, each (tasks, examples, 1). pull: lambda, a Python number, and so are the rates of `free` and `nudged` unless they
    are schedules. interpret: run the kernel's operations one by one without a GPU, to test it. Raises ValueError for other widths.
    """
    omega = _six(theta)
    each = lambda rows: jax.tree.map(pad, rows)
    examples = jax.vmap(lambda task: (*each(fast.support_rows(task)), *each(fast.nudged_rows(task, beta))))(tasks)
    count = examples[0].shape[0]
    whole = lambda x: pl.BlockSpec(x.shape, lambda i: (0,) * x.ndim)
    own = lambda x: pl.BlockSpec((1, *x.shape[1:]), lambda i: (i,) + (0,) * (x.ndim - 1))
    ends = 2 * [jax.ShapeDtypeStruct((count, *x.shape), x.dtype) for x in omega]
    found = pl.pallas_call(
        functools.partial(_two_phases, free, nudged, pull),
        grid=(count,),
        in_specs=[*map(whole, omega), *map(own, examples)],
        out_specs=[*map(own, ends)],
        out_shape=ends,
        compiler_params=triton.CompilerParams(num_warps=4),
        interpret=interpret,
    )(*omega, *examples)
    width = theta[0]["b"].shape[0]
    return _network(found[:6], width), _network(found[6:], width)
