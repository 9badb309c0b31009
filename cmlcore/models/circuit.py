"""The circuit of error backpropagation: predictions go up, errors come down, a synapse changes by their product.

With two layers, and one example (Rumelhart, Hinton & Williams 1986; drawn so in Sacramento's talk):

    u1 = W1 r0     r1 = rho(u1)     u2 = W2 r1          predictions, up
    e2 = -dL/du2                    e1 = rho'(u1) * B2 e2          errors, down
    dW2 ~ e2 r1^T                   dW1 ~ e1 r0^T          each change: error times presynaptic rate

`B2` is the feedback pathway. `W2^T` makes the changes those of gradient descent; a fixed random matrix is feedback
alignment (Lillicrap et al. 2016). The loss that stands on top sends down the first error. It is y - r2, without a
factor rho'(u2), where read-out and loss match: r2 = u2 with |y - r2|^2 / 2, or a sigmoid or softmax of u2 with the
cross-entropy. So the network here ends at u2, and everything below is the same for all of them.

Any number of layers; parameters as in `cmlcore.models.mlp`, whose `w` of shape (in, out) is the transpose of W above.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

Params = list[dict[str, jax.Array]]
Feedback = Callable[[Params], Sequence[jax.Array]]


class Sweep(NamedTuple):
    """What the predictions leave in the circuit, layer by layer.

    rates:  r0, r1, ..., what each layer of synapses hears from below, each (examples, in).
    drives: u1, u2, ..., what each layer of synapses causes, each (examples, out); the last is the read-out.
    """

    rates: list[jax.Array]
    drives: list[jax.Array]


def transpose(params: Params) -> list[jax.Array]:
    """The exact feedback pathway, W^T of every layer but the first, each (out, in): backpropagation."""
    return [layer["w"].T for layer in params[1:]]


def random_feedback(key, widths: Sequence[int]) -> Feedback:
    """A feedback pathway that is random and never learns: feedback alignment (Lillicrap et al. 2016).

    widths: of the network's layers, input first. Entries are drawn as `init_mlp` draws the weights they stand for.
    """
    sizes = list(zip(widths[1:-1], widths[2:]))
    keys = jax.random.split(key, max(len(sizes), 1))
    fixed = [jax.random.uniform(k, (out, into), minval=-1, maxval=1) * jnp.sqrt(6 / into) for k, (into, out) in zip(keys, sizes)]
    return lambda params: fixed


def predict(params: Params, r0, rho=jnp.tanh) -> Sweep:
    """Send the rates `r0`, (examples, in), up through the circuit."""
    sweep = Sweep([r0], [])
    for layer in params:
        if sweep.drives:
            sweep.rates.append(rho(sweep.drives[-1]))
        sweep.drives.append(sweep.rates[-1] @ layer["w"] + layer["b"])
    return sweep


def send_down(pathway: Sequence[jax.Array], sweep: Sweep, top, rho=jnp.tanh) -> list[jax.Array]:
    """The errors e1, e2, ... of all layers, each (examples, out), from the error `top` at the read-out.

    pathway: what a `Feedback` returned, matrices (out, in) from each layer to the one below it.
    Raises ValueError if a matrix does not fit the layers that it connects.
    """
    wanted = [(above.shape[-1], below.shape[-1]) for below, above in zip(sweep.drives, sweep.drives[1:])]
    if (found := [jnp.shape(matrix) for matrix in pathway]) != wanted:
        raise ValueError(f"the feedback pathway has matrices of shape {found}; this circuit needs {wanted}, (from, to) in units.")
    errors = [top]
    for matrix, drive in zip(reversed(pathway), reversed(sweep.drives[:-1])):
        _, gain = jax.jvp(rho, (drive,), (jnp.ones_like(drive),))
        errors.insert(0, gain * (errors[0] @ matrix))
    return errors


def changes(sweep: Sweep, errors: Sequence[jax.Array]) -> Params:
    """The change of every synapse, error times presynaptic rate, summed over examples; a bias hears a rate of 1."""
    return [{"w": rate.T @ error, "b": jnp.sum(error, axis=0)} for rate, error in zip(sweep.rates, errors)]


def circuit(feedback: Feedback = transpose, rho=jnp.tanh) -> Callable:
    """The network `(params, x) -> u`, (examples, in) -> (examples, out), whose derivative is the circuit's.

    `jax.grad` of any loss of its output returns minus the circuit's `changes`, so every solver of this package learns
    by `feedback` without knowing it. With a pathway that is not `transpose` this is no gradient of anything. Reverse
    mode only. The derivative in `x` goes through the first layer's own weights.
    """

    @jax.custom_vjp
    def network(params, x):
        return predict(params, x, rho).drives[-1]

    def forward(params, x):
        sweep = predict(params, x, rho)
        return sweep.drives[-1], (params, sweep)

    def backward(kept, slope):
        params, sweep = kept
        errors = send_down(feedback(params), sweep, -slope, rho)
        minus = jax.tree.map(jnp.negative, changes(sweep, errors))
        return minus, -errors[0] @ params[0]["w"].T

    network.defvjp(forward, backward)
    return network
