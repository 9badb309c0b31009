"""The bound on the contrastive rule's error: never broken, not empty, and the powers that follow from it are measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmlcore import trees
from cmlcore.bilevel import augmented, free
from cmlcore.estimators.contrastive import contrastive, matched, symmetric
from cmlcore.estimators.implicit import dense
from cmlcore.solve import gradient_descent, newton
from cmlcore.theory.bound import (
    best_beta,
    bound,
    bound_in_steps,
    constants,
    matched_bound,
    matched_constants,
    noisy_error,
    scaling,
    surrogate,
    symmetric_bound,
    symmetric_constants,
)  # fmt: skip
from cmlcore.theory.quadratic import Bowl, Springs, Task, exact_contrast, exact_gradient, from_seed, hessian, largest_negative_nudge, minimizer, quadratic

pytestmark = pytest.mark.usefixtures("x64")

DIM, SEEDS = 6, range(25)
# Spectra of A and B: the reference problem's, well conditioned, a test much steeper than the task, and one much flatter.
SPECTRA = [((0.1, 10.0), (0.5, 5.0)), ((1.0, 3.0), (1.0, 2.0)), ((0.1, 1.0), (5.0, 50.0)), ((1.0, 10.0), (0.01, 0.1))]
DELTAS, BETAS = jnp.array([0.0, 1e-6, 1e-3, 0.1]), jnp.logspace(-4, 2, 13)


def problems(inner, outer):
    return [from_seed(seed, DIM, inner, outer) for seed in SEEDS]


@jax.jit
def over_the_bound(theta, task, keys):
    """Error over bound, (deltas, betas): the largest over the keys."""

    def one(delta, beta):
        errors = jax.vmap(lambda key: noisy_error(theta, task, 0.0, beta, delta, key))(keys)
        return jnp.max(errors) / bound(constants(theta, task, delta, beta), delta, delta, beta)

    return jax.vmap(lambda delta: jax.vmap(lambda beta: one(delta, beta))(BETAS))(DELTAS)


@pytest.mark.parametrize("inner, outer", SPECTRA)
def test_the_bound_is_never_broken(inner, outer):
    """100 problems, 52 settings each, 8 draws of noise each; nudges from 1e-4 to 100, exact solutions among them."""
    for seed, (theta, task) in enumerate(problems(inner, outer)):
        ratio = over_the_bound(theta, task, jax.random.split(jax.random.key(seed), 8))
        assert float(jnp.max(ratio)) < 1, seed


def test_its_first_term_cannot_be_smaller():
    """Errors of both solutions along the worst synapse, in opposite directions: the bound is reached."""
    theta, task = from_seed(0)
    phi, delta, beta = minimizer(theta, task), 1e-4, 1e-6
    worst = jnp.argmax(jnp.hypot(theta.stiffness, phi - theta.omega))
    off = delta * jnp.zeros(20).at[worst].set(jnp.sign(phi - theta.omega)[worst])
    at = lambda p, b: jax.grad(lambda th: augmented(quadratic, th, b)(p, task))(theta)
    contrast = trees.sub(at(minimizer(theta, task, beta) + off, beta), at(phi - off, 0.0))
    error = trees.norm(trees.sub(trees.scale(1 / beta, contrast), exact_gradient(theta, task)))
    assert 0.999 < error / bound(constants(theta, task, delta, beta), delta, delta, beta) < 1


@jax.jit
def typical_error(theta, task, beta, delta, keys):
    return jnp.mean(jax.vmap(lambda key: noisy_error(theta, task, 0.0, beta, delta, key))(keys))


@pytest.mark.parametrize("inner, outer", SPECTRA[:2])
@pytest.mark.parametrize("delta", [1e-6, 1e-4])
def test_the_bound_is_not_empty(inner, outer, delta):
    """At the nudge that it recommends it is within a factor 20 of the error, and below the error of giving no answer."""
    for seed, (theta, task) in enumerate(problems(inner, outer)):
        known = constants(theta, task, delta, 0.1)
        beta, promised = best_beta(known, delta, delta)
        assert beta < 0.1, "outside of what the constants hold for"
        keys = jax.random.split(jax.random.key(seed), 10)
        error = typical_error(theta, task, beta, delta, keys)
        assert 1 < promised / error < 20
        assert promised < trees.norm(exact_gradient(theta, task))


def test_the_best_nudge_is_the_bottom_of_the_bound():
    known = constants(*from_seed(0), 1e-4, 1.0)._replace(outer=jnp.asarray(2.0))
    beta, least = best_beta(known, 1e-4, 2e-4)
    assert least == pytest.approx(float(bound(known, 1e-4, 2e-4, beta)), rel=1e-12)
    assert jax.grad(lambda b: bound(known, 1e-4, 2e-4, b))(beta) == pytest.approx(0, abs=1e-8)
    assert jax.grad(lambda b: bound(known, 1e-4, 2e-4, b))(beta / 2) < 0 < jax.grad(lambda b: bound(known, 1e-4, 2e-4, b))(2 * beta)


def test_where_solutions_are_bad_more_nudge_is_always_better():
    known = constants(*from_seed(0), 1e-4, 1.0)._replace(outer=jnp.asarray(2.0))
    large = 2 * float(known.bias / known.inner)
    beta, least = best_beta(known, large, 0.5)
    assert jnp.isinf(beta)
    assert least == pytest.approx(float(known.bias + 2.0 * 0.5))
    along = jax.vmap(lambda b: bound(known, large, 0.5, b))(jnp.logspace(-3, 6, 50))
    assert bool(jnp.all(jnp.diff(along) < 0)) and along[-1] > least


# In numbers of steps


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_in_steps_is_never_broken(seed):
    """Gradient descent with learning rate 1 / (L (1 + beta)): the solution errors and the estimate, both below."""
    theta, task = from_seed(seed, DIM)
    known, exact = constants(theta, task), exact_gradient(theta, task)
    rho = 1 - known.mu / known.L
    for first, second in ((10, 100), (100, 10), (400, 400)):
        free_solver = gradient_descent(1 / known.L, first)
        delta = rho**first * known.start
        phi = free_solver(free(quadratic, theta), jnp.zeros(DIM), task).phi
        assert jnp.linalg.norm(phi - minimizer(theta, task)) <= delta

        @jax.jit
        def nudged(beta):
            solver = gradient_descent(1 / (known.L * (1 + beta)), second)
            end = solver(augmented(quadratic, theta, beta), phi, task).phi
            estimate = contrastive(free_solver, solver, beta)(quadratic, theta, task)
            return jnp.linalg.norm(end - minimizer(theta, task, beta)), trees.norm(trees.sub(estimate.grad, exact))

        for beta in (1e-3, 1e-1, 1.0, 30.0):
            nudged_delta = rho**second * (delta + beta / (1 + beta) * known.push / known.mu)
            off, error = nudged(beta)
            assert off <= nudged_delta
            # The Lipschitz constant in a stiffness must hold as far as these solutions are.
            far = constants(theta, task, jnp.maximum(delta, nudged_delta), beta)
            assert error <= bound_in_steps(far, first, second, beta)


def test_the_bound_falls_at_half_the_rate_of_learning():
    known = constants(*from_seed(0), 0.0, 0.1)
    least = lambda T: jnp.log(jnp.min(bound_in_steps(known, T, T, jnp.logspace(-12, 0, 2000))))
    rate = (least(1000) - least(600)) / 400
    assert rate == pytest.approx(float(jnp.log(1 - known.mu / known.L)) / 2, rel=0.03)


def test_a_short_nudged_phase_costs_the_same_at_every_nudge():
    """The warm start: with an exact free phase and T_1 steps, what is missing does not grow with 1 / beta."""
    known = constants(*from_seed(0), 0.0, 0.1)
    missing = [float(bound_in_steps(known, 10_000, 30, beta) - known.bias * beta / (1 + beta)) for beta in (1e-6, 1e-4, 1e-2)]
    np.testing.assert_allclose(missing, missing[0], rtol=0.02)


# Where both runs share what is unfinished


@jax.jit
def over_the_shared_bounds(theta, task, off):
    """Error over bound from a free solution that is off by `off`, (matched and symmetric, nudged steps, nudges); phases of gradient descent."""
    known, exact, delta = constants(theta, task), exact_gradient(theta, task), jnp.linalg.norm(off)
    start = lambda objective, phi, task, key=None: gradient_descent(0.1, 0)(objective, minimizer(theta, task) + off, task)

    def error(rule, steps, beta):
        solver = gradient_descent(1 / (known.L * (1 + beta)), steps)
        return trees.norm(trees.sub(rule(start, solver, beta)(quadratic, theta, task).grad, exact))

    far = 0.9 * largest_negative_nudge(theta, task)
    one = lambda T: lambda b: error(matched, T, b) / matched_bound(matched_constants(theta, task, delta, b), delta, T, b)
    two = lambda T: lambda b: error(symmetric, T, b) / symmetric_bound(symmetric_constants(theta, task, delta, b), delta, T, b)
    return [jnp.stack([jax.vmap(rule(T))(b) for T in (0, 3, 30, 300)]) for rule, b in ((one, BETAS), (two, far * jnp.logspace(-3, 0, 7)))]


@pytest.mark.parametrize("inner, outer", SPECTRA)
def test_the_bounds_of_shared_transients_are_never_broken(inner, outer):
    """40 problems, 3 errors of the free solution, 4 lengths of the nudged phase, nudges from 1e-4 to 100 (or 0.9 of what has a floor)."""
    for seed, (theta, task) in enumerate(problems(inner, outer)[:10]):
        way = np.random.default_rng(seed).standard_normal(DIM)
        for delta in (0.0, 1e-3, 1.0):
            one, two = over_the_shared_bounds(theta, task, jnp.asarray(delta * way / np.linalg.norm(way)))
            assert float(jnp.max(one)) < 1 and float(jnp.max(two)) < 1, (seed, delta)


def test_what_is_shared_is_not_divided_by_beta():
    """At a nudge of 1e-6, after three nudged steps: what a free solution's error adds is linear in it for matched and symmetric, and not divided by
    beta; the one-sided rule divides it."""
    theta, task = from_seed(0)
    exact = exact_gradient(theta, task)
    way = np.random.default_rng(1).standard_normal(20) / 20
    known = constants(theta, task)
    solver = gradient_descent(1 / known.L, 3)

    def error(rule, size, beta):  # against its own value from an exact free solution: what delta adds
        from_ = lambda off: lambda objective, phi, task, key=None: gradient_descent(0.1, 0)(objective, minimizer(theta, task) + off * way, task)
        at = lambda off: rule(from_(off), solver, beta)(quadratic, theta, task).grad
        return float(trees.norm(trees.sub(at(size), at(0.0))) / trees.norm(exact))

    power = lambda rule: np.log10(error(rule, 1e-2, 1e-6) / error(rule, 1e-3, 1e-6))
    assert power(matched) == pytest.approx(1, abs=0.05) and power(symmetric) == pytest.approx(1, abs=0.05)
    assert error(contrastive, 1e-3, 1e-6) == pytest.approx(10 * error(contrastive, 1e-3, 1e-5), rel=0.01)
    assert error(matched, 1e-3, 1e-6) == pytest.approx(error(matched, 1e-3, 1e-5), rel=0.01)


# Powers of the solution error


@pytest.mark.parametrize("against, powers, betas", [(0.0, (1 / 2, 1 / 2), (-5, -0.5)), (-1.0, (1 / 3, 2 / 3), (-4, -0.6))])
def test_powers_of_the_solution_error(against, powers, betas):
    keys, deltas = jax.random.split(jax.random.key(0), 20), jnp.logspace(-7, -3, 9)
    found = scaling(*from_seed(0), against, deltas, jnp.logspace(*betas, 80), keys)
    assert found.beta_power == pytest.approx(powers[0], abs=0.006)
    assert found.error_power == pytest.approx(powers[1], abs=0.006)
    assert found.betas.shape == found.errors.shape == deltas.shape


def test_a_best_nudge_at_the_end_of_the_range_is_refused():
    with pytest.raises(ValueError, match="end of betas"):
        scaling(*from_seed(0), 0.0, jnp.array([1e-7, 1e-3]), jnp.logspace(-5, -3, 10), jax.random.split(jax.random.key(0), 3))


# The facts behind it


@pytest.mark.parametrize("seed", range(3))
def test_the_surrogate_is_what_a_finite_nudge_descends(seed):
    """Its gradient is the contrast; it never rises with beta; it lies between the outer losses of both photographs."""
    theta, task = from_seed(seed, DIM)
    betas = jnp.logspace(-4, 4, 60)
    outer = lambda beta: quadratic.outer(minimizer(theta, task, beta), theta, task.query)
    values = jax.vmap(lambda beta: surrogate(theta, task, beta))(betas)
    assert bool(jnp.all(jnp.diff(values) < 0))
    assert bool(jnp.all(jax.vmap(outer)(betas) <= values)) and bool(jnp.all(values <= outer(0.0)))
    for beta in (1e-3, 0.3, 100.0):
        slope = jax.grad(lambda th: surrogate(th, task, beta))(theta)
        assert trees.relative_error(slope, exact_contrast(theta, task, beta)) < 1e-9
    assert values[0] == pytest.approx(float(outer(0.0)), rel=1e-2)


@pytest.mark.parametrize("beta", [0.1, 1.0, 10.0])
def test_a_nudge_damps(beta):
    """One synapse: the estimate is (a + s) / (a + s + beta b) of the truth, by the rule itself and an exact solver."""
    a, s, b = 1.3, 0.4, 2.1
    theta = Springs(jnp.full(1, 0.2), jnp.full(1, s))
    task = Task(Bowl(jnp.full((1, 1), a), jnp.ones(1)), Bowl(jnp.full((1, 1), b), -jnp.ones(1)))
    solver = newton(dense(), 1)
    found = contrastive(solver, solver, beta)(quadratic, theta, task).grad.omega / exact_gradient(theta, task).omega
    assert found[0] == pytest.approx((a + s) / (a + s + beta * b), rel=1e-12)


def test_what_is_unfinished_is_divided_by_beta_only_without_a_control():
    theta, task = from_seed(0)
    h = jnp.linalg.eigvalsh(hessian(theta, task))
    solver, exact = gradient_descent(1 / (h[0] + h[-1]), 100), exact_gradient(theta, task)
    error = lambda rule, beta: float(trees.relative_error(rule(solver, solver, beta)(quadratic, theta, task).grad, exact))
    assert error(contrastive, 1e-6) == pytest.approx(10 * error(contrastive, 1e-5), rel=1e-2)
    assert error(matched, 1e-6) == pytest.approx(error(matched, 1e-5), rel=1e-2)
    assert error(matched, 1e-6) < 2e-3 < 10 < error(contrastive, 1e-6)
