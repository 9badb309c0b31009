"""The inner step of few-shot learning with conv4: every task has its own weights. Forward, backward, one step of gradient descent.

Steps are chained in a `scan`, as inner learning chains them: what a compiler does to a loop belongs to the cost.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks import pytorch
from benchmarks.clock import Case, compiled
from cmlcore.data.episodes import Examples
from cmlcore.models import convolution
from cmlcore.models.conv4 import (
    _rectify_and_pool,
    conv4,
    cross_entropy,
    init_conv4,
    transductive,
)
from cmlcore.speed import devices

FILTERS, SIZE, RATE, STEPS = 64, 28, 0.01, 5
FORMS = {
    "in turn": convolution.in_turn,
    "grouped": convolution.grouped,
    "products": convolution.products,
    "shifted": convolution.shifted,
    "winograd": convolution.winograd,
}
ON_GPU = jax.default_backend() == "gpu"


def data(tasks: int = 4, ways: int = 5):
    """Parameters with a leading axis of tasks, one image of each class `(tasks, ways, 28, 28)`, labels."""
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.uniform(size=(tasks, ways, SIZE, SIZE)), jnp.float32)
    params = jax.vmap(lambda key: init_conv4(key, ways, FILTERS, SIZE))(jax.random.split(jax.random.key(0), tasks))
    return params, x, jnp.broadcast_to(jnp.arange(ways), (tasks, ways))


def learn(logits, steps: int = STEPS):
    """`(params, images, labels) -> params` of one task after `steps` steps."""
    loss = cross_entropy(lambda phi, examples: logits(phi, examples.images))

    def step(params, examples):
        return jax.tree.map(lambda p, g: p - RATE * g, params, jax.grad(loss)(params, examples))

    if steps == 1:
        return lambda params, x, y: step(params, Examples(x, y, x))
    return lambda params, x, y: jax.lax.scan(lambda p, _: (step(p, Examples(x, y, x)), None), params, length=steps)[0]


def ours(form=None):
    return lambda params, x: conv4(params, x, x, transductive, form)


def plain(params, x):
    """The network as it is usually written, with XLA's convolution and its own derivative."""
    x = x[..., None]
    for block in params["blocks"]:
        x = convolution._one(x, block["w"]) + block["b"]
        x = _rectify_and_pool(block, transductive(x, x))
    return x.reshape(len(x), -1) @ params["w"] + params["b"]


def through_training(params, x, y):
    """The unroll: the gradient of the last loss in the first weights, in reverse through all steps."""
    last = lambda p: cross_entropy(lambda phi, e: ours()(phi, e.images))(learn(ours())(p, x, y), Examples(x, y, x))
    return jax.grad(last)(params)


def one_after_the_other(step):
    return lambda *args: jax.lax.map(lambda one: step(*one), args)


def at_once(step):
    """Every task written out, with XLA's convolution: fast for one step, and not inside a loop."""
    stack = lambda *leaves: jnp.stack(leaves)
    return lambda *args: jax.tree.map(stack, *(step(*jax.tree.map(lambda a: a[k], args)) for k in range(len(args[1]))))


def over_devices(step):
    spec = PartitionSpec(devices.AXIS)
    return jax.shard_map(step, mesh=devices.task_mesh(), in_specs=spec, out_specs=spec, check_vma=False)


def cases(tasks: int = 4, ways: int = 5) -> dict[str, Case]:
    """Every way to take the step, by name; compiled at its first run."""
    args = data(tasks, ways)

    case = lambda fn, precision="float32", steps=STEPS, args=args: compiled(fn, args, precision, steps)
    found = {"cmlcore, the default form": case(jax.vmap(learn(ours())))}
    found["cmlcore, the whole step one task after the other"] = case(one_after_the_other(learn(ours())))
    if not tasks % len(jax.devices()) and len(jax.devices()) > 1:
        shares = jax.device_put(args, NamedSharding(devices.task_mesh(), PartitionSpec(devices.AXIS)))
        found[f"cmlcore, tasks over {len(jax.devices())} devices"] = case(over_devices(one_after_the_other(learn(ours()))), args=shares)
    for name, form in FORMS.items():
        if form is not convolution.fastest() or ON_GPU:
            found[f"convolutions: {name}"] = case(jax.vmap(learn(ours(form))))
        if ON_GPU:
            found[f"convolutions: {name}, tf32"] = case(jax.vmap(learn(ours(form))), "tf32")
            found[f"convolutions: {name}, bfloat16"] = case(jax.vmap(learn(ours(convolution.rounded(form)))), "bfloat16")
    found["the unroll: in reverse through the steps"] = case(jax.vmap(through_training))
    found["plain vmap + scan of XLA's convolution"] = case(jax.vmap(learn(plain)))
    found["XLA's convolution, tasks written out, a single step"] = case(at_once(learn(plain, 1)), steps=1)
    return found


def floor(tasks: int = 4, ways: int = 5) -> dict:
    """What a step cannot do without: operations of all products, forward and twice backward, and bytes that must move."""
    operations, numbers, side, channels = 0, 0, SIZE, 1
    for _ in range(4):
        products = 2 * ways * side**2 * 9 * channels * FILTERS
        operations += products * (3 if channels > 1 else 2)  # the gradient of the drawing itself is not needed
        numbers += 2 * ways * side**2 * FILTERS  # what backward reads again is written once and read once
        side, channels = side // 2, FILTERS
    operations += 3 * 2 * ways * side**2 * FILTERS * ways
    parameters = sum(p.size for p in jax.tree.leaves(jax.eval_shape(lambda: init_conv4(jax.random.key(0), ways, FILTERS, SIZE))))
    return {
        "operations": tasks * operations,
        "bytes": tasks * 4 * (numbers + 3 * parameters),
        "sentence": f"conv4's inner step: {tasks} tasks of {ways} images {SIZE} x {SIZE}, {FILTERS} filters, weights per task; forward, "
        "backward and update. Bytes: each block's activations once out and in, parameters twice in and once out.",
    }


def arrays() -> dict[str, np.ndarray]:
    """What the PyTorch version starts from, and the gradient that it should find."""
    params, x, y = data()
    loss = lambda p, x, y: cross_entropy(lambda phi, e: ours()(phi, e.images))(p, Examples(x, y, x))
    found = jax.jit(jax.vmap(jax.grad(loss)))(params, x, y)
    return pytorch.named(params, "params.") | {"x": np.asarray(x), "y": np.asarray(y)} | pytorch.named(found, "expected.")
