"""The tasks of a meta-batch over several devices: GPUs, processes, or the cores of one CPU.

Tasks are independent until their meta-gradients are averaged, so each device takes its share and the mean is the only
moment at which they meet. Meshes and shardings are JAX's; the arrangement is this book's own.
"""

import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cmlcore.bilevel import Problem, Task, Theta
from cmlcore.estimate import Estimate, MetaGradient
from cmlcore.meta import _keys, _mean, count_tasks

AXIS = "tasks"


def cores() -> int:
    """How many cores this process may use, a number; of this book."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def split_cpu(count: int | None = None) -> int:
    """Make each core a device of its own, so that `over_devices` uses all of them; returns the number of devices.

    count: how many; by default the cores that this process may use. JAX counts its devices when it first computes, so this must come
    before: raises RuntimeError if it comes too late. Nothing else changes: what is not sharded runs on the first device.
    """
    count = count or cores()
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError as error:
        if (found := len(jax.devices("cpu"))) != count:
            raise RuntimeError(
                f"JAX already computes on {found} CPU device(s), so it cannot be split into {count}. Call split_cpu() before anything "
                "is computed: in a notebook restart the kernel and call it in the first cell."
            ) from error
    return count


def task_mesh(devices=None) -> Mesh:
    """All devices (or those of the list given) in one row, the axis `tasks`; over all processes if there are several. Of this book."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(tree, mesh: Mesh):
    """The tree with a copy of every leaf, of any shape, on each device of `mesh`; each process must pass the same values. Of this book."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def over_devices(estimator: MetaGradient, mesh: Mesh | None = None) -> MetaGradient:
    """`cmlcore.meta.over_tasks` with the tasks shared out over `mesh`: the same numbers, each device doing its part; of this book.

    mesh: a row of devices (`task_mesh`); by default all of them, looked up at the call. Tasks along the leading axis; where they do not
    divide evenly, the last device repeats the first task and its result is thrown away, so 25 tasks on 2 devices cost 13 on each.
    Raises ValueError if there are fewer tasks than devices.
    """

    def estimate(problem: Problem, theta: Theta, task: Task, key=None) -> Estimate:
        row = task_mesh() if mesh is None else mesh
        count = count_tasks(task)
        _require_enough(count, row.size)
        one = lambda theta, task, key: estimator(problem, theta, task, key)
        share = _shared(jax.vmap(one, in_axes=(None, 0, 0)), row)
        filled = jax.tree.map(lambda x: _fill(x, -count % row.size), (task, _keys(key, task)))
        return _mean(jax.tree.map(lambda x: x[:count], share(theta, *filled)))

    return estimate


def _shared(each: Callable, mesh: Mesh) -> Callable:
    spread = PartitionSpec(AXIS)
    return jax.shard_map(each, mesh=mesh, in_specs=(PartitionSpec(), spread, spread), out_specs=spread, check_vma=False)


def _fill(x, missing: int):
    return jnp.concatenate([x, jnp.broadcast_to(x[:1], (missing, *x.shape[1:]))]) if missing else x


def _require_enough(tasks: int, devices: int) -> None:
    if tasks < devices:
        raise ValueError(
            f"{tasks} tasks cannot be shared out over {devices} devices: some would have nothing to do. Take a larger meta-batch, or "
            f"fewer devices: over_devices(estimator, task_mesh(jax.devices()[:{tasks}]))."
        )
