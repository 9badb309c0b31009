"""The sine network by hand: the same slope, phases and rules as the general code, whatever computes them."""

from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmlcore import trees
from cmlcore.bilevel import augmented
from cmlcore.data.sine import WIDTHS, sine_task
from cmlcore.estimators import contrastive
from cmlcore.estimators.unroll import unrolled
from cmlcore.meta import over_tasks
from cmlcore.models.mlp import init_mlp
from cmlcore.models.synapse import learned_pull
from cmlcore.solve import optimizer
from cmlcore.speed import fast, kernel
from cmlcore.theory.count import counts
from cmlcore.theory.diagnostics import memory

THETA = jax.tree.map(lambda x: x + 0.1, init_mlp(jax.random.key(0), WIDTHS))
PROBLEM = fast.pulled_regression(0.1)
TASKS = jax.vmap(lambda key: sine_task(key, 10, 7))(jax.random.split(jax.random.key(1), 5))
ONE = jax.tree.map(lambda x: x[0], TASKS)


def apart(a, b):
    """The relative error between two trees, on the host: nothing to compile."""
    flat = lambda tree: np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
    return np.linalg.norm(flat(a) - flat(b)) / np.linalg.norm(flat(b))


def test_the_slope_by_hand_is_the_gradient():
    phi = jax.tree.map(lambda x: x + 0.05 * jnp.cos(7 * x), THETA)

    @jax.jit
    def compared(phi):
        exact = jax.grad(augmented(PROBLEM, THETA, 0.3))(phi, ONE)
        slope = fast.slope(fast.pack(phi), fast.nudged_rows(ONE, 0.3))
        by_hand = lambda pull: fast.pulled(slope, fast.pack(phi), fast.pack(THETA), pull)
        return [trees.relative_error(fast.unpack(by_hand(pull)), exact) for pull in (0.1, 0.0)]

    with_pull, without = compared(phi)
    assert float(with_pull) < 1e-5
    assert float(without) > 1e-3


def test_packing_loses_nothing_and_refuses_other_networks():
    assert apart(fast.unpack(fast.pack(THETA)), THETA) == 0
    with pytest.raises(ValueError, match="widths \\(1, H, H, 1\\) only"):
        fast.pack(init_mlp(jax.random.key(0), (1, 5, 1)))


@pytest.mark.parametrize("general, by_hand", [(contrastive.contrastive, fast.contrastive), (contrastive.matched, fast.matched)])
def test_the_rules_by_hand_are_the_rules(general, by_hand):
    """Short phases only: over hundreds of steps of Adam, two orders of the same sums part by percents in float32."""
    rate = optax.cosine_decay_schedule(0.02, 12, 0.01)
    solver = lambda steps: optimizer(optax.adam(rate), steps)
    slow = jax.jit(over_tasks(general(solver(12), solver(8), 0.3)), static_argnums=0)
    quick = jax.jit(over_tasks(by_hand(fast.Adam(rate, 12), fast.Adam(rate, 8), 0.3)), static_argnums=0)
    a, b = jax.device_get((slow(PROBLEM, THETA, TASKS), quick(PROBLEM, THETA, TASKS)))
    assert apart(b.grad, a.grad) < 1e-3 and apart(b.phi, a.phi) < 1e-5
    assert b.value == pytest.approx(a.value, rel=1e-5)
    assert a.info.keys() == b.info.keys()
    for name in a.info:
        np.testing.assert_allclose(b.info[name].grad_norm, a.info[name].grad_norm, rtol=1e-3)
        np.testing.assert_allclose(b.info[name].start_norm, a.info[name].start_norm, rtol=1e-3)


def test_another_problem_is_refused_and_beta_0_too():
    rule = fast.contrastive(fast.Adam(0.01, 1), fast.Adam(0.01, 1), 0.1)
    with pytest.raises(TypeError, match="pulled_regression"):
        rule(learned_pull(lambda phi, data: 0.0), THETA, ONE)
    with pytest.raises(ValueError, match="beta is 0"):
        fast.matched(fast.Adam(0.01, 1), fast.Adam(0.01, 1), 0.0)


def phases(theta, tasks, free, nudged, beta):
    """Both ends of every task, by `fast.learn`."""

    def one(task):
        omega = fast.pack(theta)
        first = fast.learn(omega, omega, PROBLEM.pull, fast.support_rows(task), free).phi
        return first, fast.learn(first, omega, PROBLEM.pull, fast.nudged_rows(task, beta), nudged).phi

    return tuple(jax.vmap(fast.unpack)(end) for end in jax.vmap(one)(tasks))


def test_one_kernel_for_both_phases_gives_the_same_numbers():
    """Interpreted, as there may be no GPU; 10 + 7 examples and 40 units, so all three are padded."""
    free, nudged, two = fast.Adam(optax.cosine_decay_schedule(0.02, 6, 0.01), 6), fast.Adam(0.01, 4), jax.tree.map(lambda x: x[:2], TASKS)
    run = jax.jit(lambda theta, tasks: kernel.two_phases(theta, tasks, free, nudged, PROBLEM.pull, 0.3, interpret=True))
    found, expected = jax.device_get((run(THETA, two), jax.jit(lambda *a: phases(*a, free, nudged, 0.3))(THETA, two)))
    for mine, theirs in zip(found, expected):
        assert jax.tree.map(np.shape, mine) == jax.tree.map(np.shape, theirs)
        assert apart(mine, theirs) < 1e-5
    assert apart(found[1], found[0]) > 1e-3


def test_the_kernel_refuses_another_network():
    theta = init_mlp(jax.random.key(0), (2, 40, 40, 1))
    with pytest.raises(ValueError, match="widths"):
        kernel.two_phases(theta, TASKS, fast.Adam(0.01, 2), fast.Adam(0.01, 2), PROBLEM.pull, 0.3, interpret=True)


def test_nobody_counts_what_the_rules_by_hand_ask():
    """They never call the problem's losses, so a count would be of nothing."""
    with pytest.raises(TypeError, match="written out for one problem"):
        counts(fast.contrastive(fast.Adam(0.01, 3), fast.Adam(0.01, 3), 0.3), PROBLEM, THETA, ONE)


def as_if_on_a_gpu():
    """Newer versions of JAX ask which GPU they lower for."""
    try:
        device = jax.sharding.AbstractDevice("NVIDIA H100 80GB HBM3", None, "gpu")
    except (AttributeError, TypeError):
        return nullcontext()
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1,), ("x",), abstract_device=device))


def test_the_kernel_is_accepted_by_the_compiler_for_a_gpu():
    """Lowered for CUDA on any machine: what Triton does not know would be refused here. It is not run."""
    adam = fast.Adam(0.01, 500)
    run = jax.jit(lambda theta, tasks: kernel.two_phases(theta, tasks, adam, adam, PROBLEM.pull, 0.3))
    with as_if_on_a_gpu():
        assert "triton" in run.trace(THETA, TASKS).lower(lowering_platforms=("cuda",)).as_text()


def test_memory_is_flat_in_the_number_of_steps_and_the_unrolls_is_not():
    """By XLA's own analysis, for 5 tasks: what a meta-gradient needs beside its inputs and outputs."""

    def needs(estimator):
        return memory(lambda theta, tasks: over_tasks(estimator)(PROBLEM, theta, tasks).grad, THETA, TASKS).temporary

    rule = lambda steps: needs(fast.contrastive(fast.Adam(0.01, steps), fast.Adam(0.01, steps // 2), 0.1))
    few, many = rule(20), rule(2000)
    assert many == pytest.approx(few, rel=0.05)
    path = lambda steps: needs(unrolled(optimizer(optax.adam(0.01), steps)))
    assert path(200) > 8 * path(20) > 8 * few / 2
