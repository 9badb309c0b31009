"""The functions with which a reader judges an estimator."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from cmlcore.bilevel import Problem
from cmlcore.estimators.contrastive import contrastive, matched, symmetric, three_point
from cmlcore.estimators.implicit import dense, identity, implicit
from cmlcore.estimators.unroll import unrolled
from cmlcore.solve import gradient_descent
from cmlcore.theory.diagnostics import agreement, blind, memory, order_in_beta
from cmlcore.theory.quadratic import Springs, exact_gradient, from_seed, golden, quadratic

pytestmark = pytest.mark.usefixtures("x64")

STEP = 0.085
LONG = gradient_descent(STEP, 2000)


def test_agreement_measures_length_and_direction():
    theta, task = from_seed(0)
    exact = exact_gradient(theta, task)
    found = agreement(
        quadratic, {"dense": implicit(LONG, dense()), "T1-T2": implicit(LONG, identity()), "rule": contrastive(LONG, LONG, 0.1)},
        theta, task, exact,
    )  # fmt: skip
    assert list(found) == ["dense", "T1-T2", "rule"]
    assert found["dense"].error < 1e-10 and found["dense"].cosine == pytest.approx(1)
    assert found["T1-T2"].error > 1
    assert found["rule"].error == pytest.approx(0.180, abs=5e-4)
    assert found["rule"].cosine == pytest.approx(0.9956, abs=5e-5)
    assert found["rule"].estimate.value == found["dense"].estimate.value


@pytest.mark.parametrize("rule, order", [(contrastive, 1), (matched, 1), (symmetric, 2), (three_point, 2)])
def test_order_in_beta(rule, order):
    theta, task = from_seed(0)
    exact = exact_gradient(theta, task)
    found = order_in_beta(lambda b: rule(LONG, LONG, b), quadratic, theta, task, exact, jnp.logspace(-4, -2.5, 6))
    assert found.slope == pytest.approx(order, abs=0.03)
    assert found.errors.shape == (6,)


def test_memory_is_flat_for_the_rule_and_grows_through_training():
    theta, task = from_seed(0)

    def bytes_of(estimator):
        return memory(lambda theta, task: estimator(quadratic, theta, task).grad, theta, task).temporary

    rule = [bytes_of(contrastive(gradient_descent(STEP, t), gradient_descent(STEP, t), 0.1)) for t in (50, 500, 5000)]
    assert rule[0] == rule[1] == rule[2]
    through = [bytes_of(unrolled(gradient_descent(STEP, t))) for t in (50, 500, 5000)]
    # One stored phi of 20 numbers of 8 bytes a step, at the least.
    assert through[1] - through[0] >= 450 * 20 * 8
    assert through[2] / through[1] == pytest.approx(10, rel=0.1)


def test_memory_counts_arguments_and_outputs():
    found = memory(lambda x: jnp.outer(x, x), jnp.zeros(10))
    assert found.arguments == 80 and found.output == 800


class Start(NamedTuple):
    """Springs, and where phi starts: a meta-parameter that only the path feels."""

    springs: Springs
    start: jax.Array


started = Problem(
    lambda phi, theta, support: quadratic.inner(phi, theta.springs, support),
    lambda phi, theta, query: quadratic.outer(phi, theta.springs, query),
    init=lambda theta, support: theta.start,
)


def test_contrast_and_implicit_are_blind_to_the_starting_point():
    springs, task = golden()
    theta = Start(springs, jnp.full(1, 3.0))
    short = gradient_descent(0.3, 10)
    for estimator in (contrastive(short, short, 0.1), symmetric(short, short, 0.1), matched(short, short, 0.1), implicit(short, dense())):
        found = blind(started, estimator, unrolled(short), theta, task)
        assert found.unseen == (".start",)
        assert set(found.sizes) == {".springs.omega", ".springs.stiffness", ".start"}
        # d phi_T / d start = (1 - rate (1 + s))^T, times dL_out / dphi at phi_T, near 10/3.
        assert found.sizes[".start"] == pytest.approx((1 - 0.3 * 1.5) ** 10 * 10 / 3, rel=0.02)
    assert blind(started, unrolled(short), unrolled(short), theta, task).unseen == ()
