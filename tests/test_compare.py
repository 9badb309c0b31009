"""The comparison of all estimators: what is counted, what is measured, and how the wishes are scored."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmlcore import trees
from cmlcore.bilevel import Diverged, Problem
from cmlcore.estimate import Estimate, meta_gradient
from cmlcore.estimators.contrastive import contrastive, symmetric
from cmlcore.estimators.first_order import first_order, reptile
from cmlcore.estimators.imaginary import contour, imaginary, tangent
from cmlcore.estimators.implicit import cg, dense, identity, implicit, neumann
from cmlcore.estimators.unroll import checkpointed, forward_mode, truncated, unrolled
from cmlcore.solve import gradient_descent, newton, until
from cmlcore.theory.compare import compare, errors_over_steps, sealed, wishes
from cmlcore.theory.count import Counts, counts, marked
from cmlcore.theory.quadratic import exact_gradient, from_seed, quadratic

pytestmark = pytest.mark.usefixtures("x64")

STEP = 1 / 11.7106  # 1 / (largest + smallest curvature) of from_seed(0)
S = gradient_descent(STEP, 30)
started = Problem(quadratic.inner, quadratic.outer, init=lambda theta, support: theta.omega)

# Gradients, products, chain, products in reverse. The outer gradient is one more link of every chain.
BY_HAND = {
    # 30 free steps; 20 nudged ones of both losses; three partial derivatives.
    "contrastive": (contrastive(S, gradient_descent(STEP, 20), 0.1), Counts(30 + 2 * 20 + 3, 0, 51, 0)),
    # The two nudged phases could run side by side.
    "symmetric": (symmetric(S, S, 0.1), Counts(30 + 2 * 60 + 4, 0, 61, 0)),
    "unrolled": (unrolled(S), Counts(31, 30, 61, 30)),
    "truncated": (truncated(S, 10), Counts(31, 10, 41, 10)),
    # The 28 steps in segments of 7 are taken twice; then come the 2 others.
    "checkpointed": (checkpointed(S, 7), Counts(59, 30, 89, 30)),
    # One product for each of 40 slow parameters and each step, side by side.
    "forward": (forward_mode(S), Counts(31, 40 * 30, 31, 0)),
    # K products and a mixed one; the product of the diagnostics is not counted.
    "cg": (implicit(S, cg(7)), Counts(31, 8, 39, 0)),
    "neumann": (implicit(S, neumann(7, STEP)), Counts(31, 7, 38, 0)),
    "T1-T2": (implicit(S, identity()), Counts(31, 1, 32, 0)),
    # The columns of H and the outer gradient do not wait for each other.
    "dense": (implicit(S, dense()), Counts(31, 21, 32, 0)),
    "first order": (first_order(S), Counts(31, 0, 31, 0)),
    "reptile": (reptile(S), Counts(30, 0, 30, 0)),
    # Newton's learner itself asks for second derivatives: 2 steps of 5, in each phase, of one loss and of both.
    "contrastive with newton": (contrastive(S, newton(cg(5), 2), 0.1), Counts(30 + 2 * 2 + 3, 2 * 2 * 5, 43, 0)),
    # A complex gradient is one: 30 free steps, 30 nudged ones of both losses, two partial derivatives. No control.
    "imaginary": (imaginary(S, S, 0.1), Counts(30 + 60 + 2, 0, 61, 0)),
    # Eight nudges in four conjugate pairs, side by side.
    "contour": (contour(S, S, 0.1, 8), Counts(30 + 4 * (60 + 2), 0, 61, 0)),
    # Each nudged step and the last derivative, differentiated in the nudge; the last gradient of the inner loss is not needed itself.
    "tangent": (tangent(S, S), Counts(30 + 60 + 1, 2 * 30 + 2, 61, 0)),
    "until": (implicit(until(optax.sgd(STEP), 1e-3, 99), cg(7)), Counts(math.inf, 8, math.inf, 0)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_counts(name):
    estimator, wanted = BY_HAND[name]
    assert counts(estimator, started, *from_seed(0)) == wanted


def test_a_marked_problem_is_the_same_problem():
    theta, task = from_seed(0)
    short = gradient_descent(STEP, 5)
    plane = imaginary(short, short, 0.1), contour(short, short, 0.1, 4), tangent(short, short)
    for estimator in (unrolled(short), implicit(short, dense()), forward_mode(short), *plane):
        found, wanted = (meta_gradient(estimator, p, theta, task).grad for p in (marked(quadratic), quadratic))
        assert trees.relative_error(found, wanted) < 1e-12


def test_nested_differentiation_is_found_however_it_is_written():
    """Reverse over reverse, forward over reverse, reverse over forward, a whole Hessian; in a branch, in a loop, compiled."""
    theta, task = from_seed(0)
    phi = jnp.ones(20)

    def asked(of_loss):
        grad = lambda problem, th, task, key=None: Estimate(of_loss(lambda p: problem.inner(p, th, task.support)), 0.0, phi, {})
        return counts(grad, quadratic, theta, task)

    slope = lambda f: jax.grad(f)(phi) @ phi
    ways = {
        "reverse over reverse": lambda f: jax.grad(lambda p: jax.grad(f)(p) @ phi)(phi),
        "forward over reverse": lambda f: jax.jvp(jax.grad(f), (phi,), (phi,))[1],
        "reverse over forward": lambda f: jax.grad(lambda p: jax.jvp(f, (p,), (phi,))[1])(phi),
        "compiled": lambda f: jax.jit(lambda p: jax.jvp(jax.grad(f), (p,), (phi,))[1])(phi),
        "in a branch": lambda f: jax.lax.cond(phi[0] > 0, lambda p: jax.jvp(jax.grad(f), (p,), (p,))[1], jax.grad(f), phi),
    }
    for way in ways.values():
        assert asked(way).second == 1
    assert asked(lambda f: jax.hessian(f)(phi)).second == 20
    assert asked(lambda f: jax.lax.fori_loop(0, 7, lambda _, p: ways["forward over reverse"](f) + p, phi)).second == 7
    assert asked(slope) == Counts(1, 0, 1, 0)
    assert asked(lambda f: f(phi)) == Counts()


def test_compare_measures_each_against_the_exact_answer():
    theta, task = from_seed(0)
    found = compare(quadratic, {"dense": implicit(S, dense()), "all steps": unrolled(S)}, theta, task, exact_gradient(theta, task))
    assert list(found) == ["dense", "all steps"]
    for row, estimator in zip(found.values(), (implicit(S, dense()), unrolled(S))):
        grad = meta_gradient(estimator, quadratic, theta, task).grad
        assert row.error == pytest.approx(float(trees.relative_error(grad, exact_gradient(theta, task))), rel=1e-9)
        assert row.cosine == pytest.approx(float(trees.cosine(grad, exact_gradient(theta, task))), rel=1e-9)
        assert row.asked == counts(estimator, quadratic, theta, task)
        assert 0 < row.seconds < row.compile_seconds, "compilation must not be in the time of a call"
    assert found["all steps"].memory > 30 * 20 * 8, "the path"


def test_compare_names_the_estimator_that_diverged():
    theta, task = from_seed(0)
    with pytest.raises(Diverged, match="fast: the free phase diverged"):
        compare(quadratic, {"fast": unrolled(gradient_descent(0.5, 300))}, theta, task, exact_gradient(theta, task))


def test_errors_over_steps():
    theta, task = from_seed(0)
    exact = exact_gradient(theta, task)
    builds = {
        "last 10": lambda T: truncated(gradient_descent(STEP, T), 10),
        "T1-T2": lambda T: implicit(gradient_descent(STEP, T), identity()),
        "too fast": lambda T: unrolled(gradient_descent(0.5, 100 * T)),
    }
    found = errors_over_steps(quadratic, builds, theta, task, exact, (20, 50))
    assert list(found) == list(builds)
    np.testing.assert_allclose(found["last 10"], [0.36, 0.36], rtol=0.02)
    np.testing.assert_allclose(found["T1-T2"], [1.1, 1.2], rtol=0.05)
    assert jnp.all(jnp.isinf(found["too fast"]))


WISHES = {
    "contrastive": (lambda s: contrastive(s, s, 0.1), True, True, True),
    "unrolled": (unrolled, False, False, False),
    "truncated": (lambda s: truncated(s, 10), False, False, False),
    "checkpointed": (checkpointed, False, False, False),
    "forward mode": (forward_mode, False, True, False),
    "implicit": (lambda s: implicit(s, cg(7)), False, True, True),
    "T1-T2": (lambda s: implicit(s, identity()), False, True, True),
    "first order": (first_order, True, True, True),
    "imaginary": (lambda s: imaginary(s, s, 0.1), True, True, True),
    "contour": (lambda s: contour(s, s, 0.1), True, True, True),
    "tangent": (lambda s: tangent(s, s), False, True, False),
}


def test_wishes():
    found = wishes(started, {n: w[0] for n, w in WISHES.items()}, lambda T: gradient_descent(STEP, T), *from_seed(0))
    assert {name: (w.local, w.causal, w.flexible) for name, w in found.items()} == {n: w[1:] for n, w in WISHES.items()}
    assert found["unrolled"].growth >= 20 * 8, "a phi a step"
    assert 0 < found["checkpointed"].growth < 20 * 8 / 4
    assert found["truncated"].growth == found["contrastive"].growth == 0
    assert (found["truncated"].backward, found["unrolled"].backward) == (10, 64)


def test_a_path_that_is_stored_is_seen_by_its_memory():
    """Backpropagation through a path written out by hand has no loop in reverse, and grows all the same."""

    class Unwound(NamedTuple):
        steps: int

        def __call__(self, objective, phi, task, key=None):
            for _ in range(self.steps):
                phi = jnp.tanh(phi - 0.05 * jax.grad(objective)(phi, task))
            return gradient_descent(STEP, 0)(objective, phi, task)

    found = wishes(started, {"by hand": unrolled}, Unwound, *from_seed(0), steps=(4, 24))["by hand"]
    assert found.backward == 0 and found.growth > 1 and not found.causal


def test_a_sealed_solver_can_be_called_and_nothing_else():
    theta, task = from_seed(0)
    black_box = sealed(S)
    for build in (lambda s: contrastive(s, s, 0.1), lambda s: implicit(s, dense())):
        found, wanted = (meta_gradient(build(s), quadratic, theta, task).grad for s in (black_box, S))
        assert trees.relative_error(found, wanted) < 1e-12
    with pytest.raises(ValueError, match="do not support JVP"):
        meta_gradient(unrolled(black_box), quadratic, theta, task)
    with pytest.raises(TypeError, match="step by step"):
        truncated(black_box, 3)
