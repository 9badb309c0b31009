"""Tasks over several devices: one device, eight virtual ones and two processes give the same numbers."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from compiling import QUICKLY
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from cmlcore.data.sine import sine_task
from cmlcore.meta import over_tasks
from cmlcore.models.mlp import init_mlp
from cmlcore.speed import devices, fast

RULE = fast.matched(fast.Adam(0.01, 5), fast.Adam(0.01, 3), 0.1)
COUNT = 10  # does not divide by 8, nor does it by 4


def keyed(problem, theta, task, key):
    """The rule, with a number in its value that only this task's key gives."""
    found = RULE(problem, theta, task)
    return found._replace(value=found.value + jax.random.uniform(key))


def world(count):
    """A small network and so many tasks."""
    return init_mlp(jax.random.key(0), (1, 6, 6, 1)), jax.vmap(sine_task)(jax.random.split(jax.random.key(1), count))


def estimate(over, mesh=None):
    """A meta-gradient, its value and every task's phi, as numpy arrays by name."""
    theta, tasks = world(COUNT)
    if mesh is not None:
        theta, tasks = devices.replicated((theta, tasks), mesh)
    compute = jax.jit(lambda theta, tasks: over(keyed)(fast.pulled_regression(0.1), theta, tasks, jax.random.key(2)))
    result = compute(theta, tasks)
    grad, phi = jax.tree.leaves(result.grad), jax.tree.leaves(result.phi)
    # Several processes each hold a part of phi: all of them get the whole.
    if mesh is not None:
        phi = jax.tree.leaves(jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))(phi))
    named = {f"grad_{i}": g for i, g in enumerate(grad)} | {f"phi_{i}": p for i, p in enumerate(phi)}
    return {name: np.asarray(leaf) for name, leaf in (named | {"value": result.value}).items()}


@pytest.fixture(scope="module")
def one_device():
    return estimate(over_tasks)


def start(*arguments):
    """This file as a program of its own, because JAX counts devices once in a process."""
    compiled_as_here = {"XLA_FLAGS": QUICKLY}  # for the same rounding
    environment = os.environ | compiled_as_here | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error


def assert_same(file, expected):
    with np.load(file) as found:
        assert set(found.files) == set(expected)
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=2e-5, atol=2e-6, err_msg=name)


def test_eight_devices_give_the_numbers_of_one(tmp_path, one_device):
    finish(start(tmp_path / "eight.npz", 8))
    assert_same(tmp_path / "eight.npz", one_device)


def test_two_processes_give_the_numbers_of_one(tmp_path, one_device):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    both = [start(tmp_path / f"{rank}.npz", 2, address, rank) for rank in (0, 1)]
    for process in both:
        finish(process)
    for rank in (0, 1):
        assert_same(tmp_path / f"{rank}.npz", one_device)


def test_one_device_is_a_row_too(one_device):
    found = estimate(devices.over_devices)
    for name in one_device:
        np.testing.assert_allclose(found[name], one_device[name], rtol=2e-5, atol=2e-6)


def test_fewer_tasks_than_devices_are_refused():
    with pytest.raises(ValueError, match="3 tasks cannot be shared out over 4 devices.*larger meta-batch"):
        devices.over_devices(keyed, AbstractMesh((4,), (devices.AXIS,)))(fast.pulled_regression(0.1), *world(3))


def test_splitting_too_late_is_refused():
    jax.devices()
    with pytest.raises(RuntimeError, match="restart the kernel"):
        devices.split_cpu(len(jax.devices("cpu")) + 1)
    assert devices.split_cpu(len(jax.devices("cpu"))) == len(jax.devices("cpu"))


def program(path, count, address=None, rank=None):
    """`count` devices in this process, or 2 in each of two processes that meet at `address`; the numbers go to `path`."""
    devices.split_cpu(int(count))
    if address:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(address, num_processes=2, process_id=int(rank))
    mesh = devices.task_mesh()
    assert mesh.size == int(count) * (2 if address else 1), mesh
    np.savez(path, **estimate(lambda rule: devices.over_devices(rule, mesh), mesh))


if __name__ == "__main__":
    program(*sys.argv[1:])
