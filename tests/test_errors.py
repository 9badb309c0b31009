"""What is wrong is refused or named, and the message says what to do: never a silent NaN."""

import jax
import jax.numpy as jnp
import optax
import pytest

from cmlcore.bilevel import Diverged
from cmlcore.estimate import check_phases, meta_gradient
from cmlcore.estimators.contrastive import contrastive, matched, symmetric, three_point
from cmlcore.estimators.implicit import cg, implicit, neumann
from cmlcore.estimators.unroll import unrolled
from cmlcore.models.synapse import fixed_pull
from cmlcore.solve import gradient_descent, minibatch, subsample, until
from cmlcore.theory.diagnostics import agreement, order_in_beta
from cmlcore.theory.quadratic import exact_gradient, from_seed, golden, quadratic

pytestmark = pytest.mark.usefixtures("x64")

RULES = [contrastive, symmetric, three_point, matched]
GOOD, FAST = gradient_descent(0.085, 300), gradient_descent(0.5, 300)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("zero", [0, 0.0, jnp.zeros(())])
def test_beta_zero_is_refused(rule, zero):
    with pytest.raises(ValueError, match="beta is 0.*small positive"):
        rule(GOOD, GOOD, zero)


@pytest.mark.parametrize("rule", RULES)
def test_a_traced_beta_of_zero_is_named(rule):
    theta, task = from_seed(0)
    with pytest.raises(Diverged, match="is beta 0"):
        check_phases(jax.jit(lambda beta: rule(GOOD, GOOD, beta)(quadratic, theta, task))(0.0))


@pytest.mark.parametrize("strength", [-1, -1e-9, jnp.asarray(-0.5)])
def test_a_negative_pull_is_refused(strength):
    with pytest.raises(ValueError, match="lambda is -.*must not be negative"):
        fixed_pull(lambda phi, data: jnp.sum(phi), strength)


@pytest.mark.parametrize(
    "build",
    [
        lambda: gradient_descent(0.1, -1),
        lambda: minibatch(optax.sgd(0.1), -3, subsample(2)),
        lambda: until(optax.sgd(0.1), 1e-3, -1),
        lambda: cg(0),
        lambda: neumann(0, 0.1),
        lambda: neumann(-2, 0.1),
        lambda: subsample(-1),
        lambda: subsample(5, -2),
    ],
)
def test_a_count_that_makes_no_sense_is_refused(build):
    with pytest.raises(ValueError, match="is -?[0-9]+;"):
        build()


def test_a_minibatch_without_a_key_is_refused():
    theta, task = golden()
    with pytest.raises(ValueError, match="pass a key"):
        meta_gradient(unrolled(minibatch(optax.sgd(0.1), 5, subsample(1))), quadratic, theta, task)


@pytest.mark.parametrize("rule", RULES)
def test_a_free_phase_that_diverges_is_named(rule):
    with pytest.raises(Diverged, match="the free phase diverged.*learning rate"):
        meta_gradient(rule(FAST, GOOD, 0.1), quadratic, *from_seed(0))


@pytest.mark.parametrize("rule", RULES)
def test_a_nudged_phase_that_diverges_is_named(rule):
    """The learning rate suits L_in, and is too large for L_in + 10 L_out."""
    with pytest.raises(Diverged, match="the nudged phase diverged.*or beta"):
        meta_gradient(rule(GOOD, GOOD, 10.0), quadratic, *from_seed(0))


def test_a_negative_nudge_without_a_minimum_is_named():
    """beta = 0.6 is past the largest negative nudge of this problem, 0.29."""
    with pytest.raises(Diverged, match="the nudged negative phase diverged.*`matched`"):
        meta_gradient(symmetric(GOOD, GOOD, 0.6), quadratic, *from_seed(0))
    meta_gradient(matched(GOOD, GOOD, 0.6), quadratic, *from_seed(0))


def test_a_neumann_series_that_diverges_is_named():
    with pytest.raises(Diverged, match="the linear phase diverged.*Neumann step"):
        meta_gradient(implicit(GOOD, neumann(200, 0.5)), quadratic, *from_seed(0))


def test_backprop_through_a_run_that_diverges_is_named():
    with pytest.raises(Diverged, match="the free phase diverged"):
        meta_gradient(unrolled(FAST), quadratic, *from_seed(0))


def test_an_overflow_is_named_too():
    with pytest.raises(Diverged, match="the free phase diverged"):
        meta_gradient(unrolled(gradient_descent(0.5, 5000)), quadratic, *from_seed(0))


def test_agreement_says_which_estimator_diverged():
    theta, task = from_seed(0)
    with pytest.raises(Diverged, match="central: the nudged negative phase"):
        agreement(quadratic, {"central": symmetric(GOOD, GOOD, 0.6)}, theta, task, exact_gradient(theta, task))


@pytest.mark.parametrize("betas", [[0.1], [0.1, 0.0], [0.1, -0.1]])
def test_an_order_needs_two_positive_nudges(betas):
    theta, task = golden()
    with pytest.raises(ValueError, match="two positive"):
        order_in_beta(lambda b: contrastive(GOOD, GOOD, b), quadratic, theta, task, exact_gradient(theta, task), betas)
