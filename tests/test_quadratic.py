"""The closed forms of `cmlcore.theory.quadratic`: against hand calculation, automatic differentiation and each other."""

from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmlcore import trees
from cmlcore.bilevel import augmented, free
from cmlcore.theory.quadratic import (
    exact_contrast,
    exact_gradient,
    exact_symmetric,
    from_key,
    from_seed,
    golden,
    hessian,
    largest_negative_nudge,
    minimizer,
    quadratic,
)

pytestmark = pytest.mark.usefixtures("x64")

# beta: one-sided d/domega, d/ds, symmetric d/domega, d/ds, of the golden case, to six decimals.
GOLDEN = {
    0.3: (0.793651, -0.680272, 1.322751, -2.603511),
    0.1: (0.980392, -1.114956, 1.131222, -1.576544),
    0.01: (1.096491, -1.437942, 1.111309, -1.482404),
    0.001: (1.109632, -1.477046, 1.111113, -1.481491),
}

# beta: relative errors of one-sided, symmetric, three-point, and the cosine of the one-sided, each to its last digit;
# from_seed(0), both phases solved exactly. Past the largest negative nudge the symmetric rule has no minimum to find.
REFERENCE = {
    1e-3: ("2.31e-3", "9.6e-6", "1.9e-5", "1.0000"),
    1e-2: ("2.25e-2", "9.6e-4", "1.7e-3", "0.9999"),
    1e-1: ("1.80e-1", "1.18e-1", "7.1e-2", "0.9956"),
    0.3: ("3.90e-1", None, "2.3e-1", "0.985"),
    1.0: ("6.77e-1", None, "5.5e-1", "0.951"),
    10.0: ("9.51e-1", None, "9.3e-1", "0.769"),
}


def rounds_to(value, printed: str) -> bool:
    """Whether `value`, rounded to as many decimals as `printed` shows, is `printed`."""
    return abs(float(value) - float(printed)) <= 0.5 * 10.0 ** Decimal(printed).as_tuple().exponent


def test_golden_case_by_hand():
    theta, task = golden()
    assert minimizer(theta, task)[0] == pytest.approx(2 / 3, abs=1e-14)
    assert minimizer(theta, task, 0.1)[0] == pytest.approx(0.8 / 1.7, abs=1e-14)
    assert quadratic.outer(minimizer(theta, task), theta, task.query) == pytest.approx(25 / 9, abs=1e-14)
    exact = exact_gradient(theta, task)
    assert exact.omega[0] == pytest.approx(10 / 9, abs=1e-14)
    assert exact.stiffness[0] == pytest.approx(-40 / 27, abs=1e-14)


@pytest.mark.parametrize("beta", GOLDEN)
def test_golden_table(beta):
    theta, task = golden()
    one, both = exact_contrast(theta, task, beta), exact_symmetric(theta, task, beta)
    found = [one.omega[0], one.stiffness[0], both.omega[0], both.stiffness[0]]
    np.testing.assert_allclose(found, GOLDEN[beta], rtol=0, atol=0.51e-6)
    assert one.omega[0] == pytest.approx((5 / 3) / (1.5 + 2 * beta), abs=1e-14)


@pytest.mark.parametrize("beta", REFERENCE)
def test_reference_table_of_exact_phases(beta):
    theta, task = from_seed(0)
    exact = exact_gradient(theta, task)
    one = exact_contrast(theta, task, beta)
    three = trees.sub(trees.scale(2, one), exact_contrast(theta, task, 2 * beta))
    error, both, forward, cosine = REFERENCE[beta]
    assert rounds_to(trees.relative_error(one, exact), error)
    assert rounds_to(trees.relative_error(three, exact), forward)
    assert rounds_to(trees.cosine(one, exact), cosine)
    if both is not None:
        assert rounds_to(trees.relative_error(exact_symmetric(theta, task, beta), exact), both)


def test_reference_problem():
    theta, task = from_seed(0)
    assert float(jnp.linalg.cond(hessian(theta, task))) == pytest.approx(17.03, abs=0.01)
    assert float(largest_negative_nudge(theta, task)) == pytest.approx(0.2906, abs=1e-4)


def test_closed_forms_agree_with_automatic_differentiation():
    theta, task = from_seed(3, dim=6)
    total = jax.grad(lambda th: quadratic.outer(minimizer(th, task), th, task.query))(theta)
    assert trees.relative_error(exact_gradient(theta, task), total) < 1e-12
    for beta in (-0.1, 0.2, 5.0):
        slope = jax.grad(lambda phi: augmented(quadratic, theta, beta)(phi, task))(minimizer(theta, task, beta))
        assert jnp.linalg.norm(slope) < 1e-12
        curvature = jax.hessian(lambda phi: augmented(quadratic, theta, beta)(phi, task))(theta.omega)
        np.testing.assert_allclose(curvature, hessian(theta, task, beta), atol=1e-12)


@pytest.mark.parametrize("beta", [0.05, 0.7, 20.0])
def test_the_contrast_is_the_gradient_of_a_surrogate_loss(beta):
    """With exact minimizers and any beta: grad of S(theta) = [min (L_in + beta L_out) - min L_in] / beta."""
    theta, task = from_seed(1, dim=7)

    def surrogate(theta):
        nudged = augmented(quadratic, theta, beta)(minimizer(theta, task, beta), task)
        return (nudged - free(quadratic, theta)(minimizer(theta, task), task)) / beta

    assert trees.relative_error(exact_contrast(theta, task, beta), jax.grad(surrogate)(theta)) < 1e-11
    outer = lambda b: quadratic.outer(minimizer(theta, task, b), theta, task.query)
    assert outer(beta) <= surrogate(theta) <= outer(0.0)


def test_convexity_ends_at_the_largest_negative_nudge():
    theta, task = from_seed(2)
    limit = largest_negative_nudge(theta, task)
    lowest = lambda beta: jnp.linalg.eigvalsh(hessian(theta, task, beta))[0]
    assert lowest(-0.999 * limit) > 0 > lowest(-1.001 * limit)


def test_spectra_are_as_asked():
    theta, task = from_seed(5, dim=8, inner=(0.2, 3.0), outer=(1.0, 1.0), stiffness=(2.0, 4.0))
    np.testing.assert_allclose(jnp.linalg.eigvalsh(task.support.curvature), np.geomspace(0.2, 3.0, 8), rtol=1e-12)
    np.testing.assert_allclose(task.query.curvature, np.eye(8), atol=1e-12)
    assert 2 <= theta.stiffness.min() and theta.stiffness.max() <= 4


def test_spectra_are_traced_and_families_are_drawn_from_keys():
    spread = jax.jit(lambda high: jnp.linalg.eigvalsh(from_seed(0, 4, (0.1, high))[1].support.curvature)[-1])
    assert spread(3.0) == pytest.approx(3.0)
    assert spread(30.0) == pytest.approx(30.0)
    thetas, tasks = jax.vmap(lambda key: from_key(key, 5))(jax.random.split(jax.random.key(0), 3))
    gradients = jax.vmap(exact_gradient)(thetas, tasks)
    assert gradients.omega.shape == (3, 5)
    assert not jnp.allclose(tasks.support.center[0], tasks.support.center[1])


@pytest.mark.parametrize("range_", [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
@pytest.mark.parametrize("name", ["inner", "outer", "stiffness"])
def test_a_spectrum_that_is_none_is_refused(name, range_):
    with pytest.raises(ValueError, match=name):
        from_seed(0, **{name: range_})
