"""The wheel, the games on it, and who plays: closed forms, the same trials for all, and errors that say what to do."""

from pathlib import Path

import jax
import jax.numpy as jnp
import nbformat
import numpy as np
import optax
import pytest

from cmlcore.bandits import agents, bandit
from cmlcore.bandits.bandit import Rules
from cmlcore.bilevel import Problem
from cmlcore.data import wheel as wheels
from cmlcore.data.wheel import ARMS, SAFE, Wheel
from cmlcore.estimators.contrastive import contrastive
from cmlcore.estimators.implicit import dense
from cmlcore.models import linear
from cmlcore.models.mlp import init_mlp, mlp
from cmlcore.models.synapse import fixed_pull
from cmlcore.runs import receipts, rewards
from cmlcore.solve import newton

KEY = jax.random.key(3)
RULES = Rules(every=20, capacity=60, opening=2)
CONTEXTS = jnp.array([[0.6, 0.6], [0.6, -0.6], [-0.6, 0.6], [-0.6, -0.6], [0.1, 0.1]])


def network_agent(pull=0.1):
    error = agents.reward_error(mlp)
    theta = init_mlp(jax.random.key(1), (2, 8, ARMS))
    return agents.greedy(fixed_pull(error, pull), theta, lambda phi, _, x: mlp(phi, x), optax.adam(0.01), 5, 16)


# ---- the wheel -------------------------------------------------------------------------------------------------------


def test_every_region_pays_what_the_text_says():
    mean = wheels.means(Wheel(0.5), CONTEXTS)
    expected = np.full((5, ARMS), 1.0)
    expected[:, SAFE] = 1.2
    expected[np.arange(4), np.arange(4)] = 50.0
    np.testing.assert_allclose(mean, expected)
    turned = wheels.means(Wheel(0.5, turn=1), CONTEXTS)
    assert np.argmax(turned, -1).tolist() == [1, 2, 3, 0, SAFE]


def test_the_border_of_delta_is_inside():
    assert not wheels.outside(Wheel(0.5), jnp.array([0.5, 0.0])) and wheels.outside(Wheel(0.5), jnp.array([0.501, 0.0]))


@pytest.mark.parametrize("delta", [0.0, 0.5, 0.9, 1.0])
def test_uniform_and_bold_regret_are_the_means_of_simulations(delta):
    context = wheels.contexts(KEY, 40000)
    inside = float(jnp.mean(~wheels.outside(Wheel(delta), context)))
    of_uniform = wheels.policy_regret(Wheel(delta), context, jnp.full((40000, ARMS), 1 / ARMS))
    assert inside == pytest.approx(delta**2, abs=0.01)
    sem = float(jnp.std(of_uniform)) / 200
    assert float(jnp.mean(of_uniform)) == pytest.approx(float(wheels.uniform_regret(delta)), abs=4 * sem + 1e-4)
    of_bold = wheels.regret(Wheel(delta), context, wheels.quadrant(context))
    assert float(jnp.mean(of_bold)) == pytest.approx(0.2 * delta**2, abs=4 * float(jnp.std(of_bold)) / 200 + 1e-4)


def test_uniform_play_costs_what_the_closed_form_says():
    keys = jax.random.split(KEY, 20)
    rules = RULES._replace(opening=0)
    found = jax.vmap(lambda k: bandit.play(bandit.uniform(), Wheel(0.7), k, 20, rules)[0].regret)(keys) / 400
    assert float(jnp.mean(found)) == pytest.approx(float(wheels.uniform_regret(0.7)), abs=4 * float(jnp.std(found)) / 20**0.5)


def test_rewards_scatter_around_their_means_as_published():
    paid = wheels.rewards(Wheel(0.5), jnp.broadcast_to(CONTEXTS[0], (5000, 2)), jax.random.normal(KEY, (5000, ARMS)))
    np.testing.assert_allclose(jnp.mean(paid, 0), [50, 1, 1, 1, 1.2], atol=0.005)
    np.testing.assert_allclose(jnp.std(paid, 0), [0.01] + 4 * [0.05], rtol=0.05)


def test_a_task_has_the_published_sets():
    task = wheels.wheel_task(KEY)
    assert task.support.context.shape == (512, 2) and task.query.reward.shape == (50,)
    assert np.bincount(task.support.arm, minlength=5).min() > 60
    assert set(np.round(np.unique(np.round(task.support.reward)))) <= {1.0, 50.0}


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda: wheels.means(Wheel(1.5), CONTEXTS), "delta is 1.5.*from 0"),
        (lambda: wheels.uniform_regret(-0.1), "delta is -0.1"),
        (lambda: wheels.regret(Wheel(0.5), CONTEXTS, jnp.full(5, 5)), "an arm is 5; arms count from 0 to 4"),
        (lambda: wheels.regret(Wheel(0.5), CONTEXTS, jnp.ones(5)), "whole numbers.*astype"),
        (lambda: wheels.quadrant(jnp.ones((4, 3))), r"shape \(4, 3\).*length 2"),
        (lambda: wheels.policy_regret(Wheel(0.5), CONTEXTS, jnp.ones((5, 4))), r"shape \(5, 4\).*one for each"),
        (lambda: wheels.pulls(Wheel(0.5), KEY, 0), "count is 0"),
        (lambda: bandit.play(bandit.uniform(), Wheel(0.5), KEY, 1, Rules(every=0)), "1 or more"),
        (lambda: bandit.noisy(bandit.uniform(), 1.5), "epsilon is 1.5; it is a probability"),
        (lambda: linear.posterior(linear.no_rows(2), linear.Prior(0.0)), "must all be positive"),
        (agents.lin_full_post, "enable_x64"),
    ],
)
def test_what_is_wrong_is_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong()


# ---- games -----------------------------------------------------------------------------------------------------------


def test_an_oracle_has_no_regret_after_the_opening():
    without = RULES._replace(opening=0)
    assert float(bandit.play(bandit.oracle(Wheel(0.6)), Wheel(0.6), KEY, 5, without)[0].regret) == 0
    assert float(bandit.play(bandit.oracle(Wheel(0.6)), Wheel(0.6), KEY, 5, RULES)[0].regret) > 0
    assert float(bandit.play(bandit.oracle(Wheel(0.9)), Wheel(0.6), KEY, 5, without)[0].regret) > 0


def test_a_key_deals_the_same_trials_to_all_agents_in_both_precisions():
    last = lambda agent: bandit.play(agent, Wheel(jnp.float32(0.8)), KEY, 3, RULES)[0].memory.pulls
    one, other = last(bandit.uniform()), last(network_agent())
    with jax.enable_x64(True):
        double = last(agents.lin_full_post())
    np.testing.assert_array_equal(one.context, other.context)
    np.testing.assert_array_equal(one.context, double.context)
    same = np.asarray(one.arm == other.arm)
    assert 0 < same.sum() < 60
    np.testing.assert_array_equal(one.reward[same], other.reward[same])


def test_a_game_goes_on_to_the_same_numbers():
    agent, wheel = network_agent(), Wheel(0.8)
    whole, curve = bandit.play(agent, wheel, KEY, 6, RULES)
    half, first = bandit.play(agent, wheel, KEY, 2, RULES)
    end, rest = bandit.go_on(agent, wheel, half, 4, RULES)
    np.testing.assert_array_equal(jnp.concatenate([first, rest]), curve)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(whole.beliefs), jax.tree.leaves(end.beliefs))


def test_the_memory_is_bounded_and_forgets_the_oldest():
    game, _ = bandit.play(bandit.uniform(), Wheel(0.8), KEY, 4, RULES)
    assert game.memory.count == 60 and game.memory.pulls.context.shape == (60, 2) and game.trial == 80
    latest = jnp.stack([bandit.deal(KEY, t)[0] for t in (*range(60, 80), *range(20, 60))])
    np.testing.assert_allclose(game.memory.pulls.context, latest, rtol=1e-6)


def test_games_side_by_side_are_the_games_alone():
    keys = jax.random.split(KEY, 3)
    one = lambda k: bandit.play(network_agent(), Wheel(0.8), k, 3, RULES)[1]
    np.testing.assert_allclose(jax.vmap(one)(keys), jnp.stack([one(k) for k in keys]), rtol=1e-4)


def test_a_network_learns_to_play():
    """Trained on a wheel that is rich everywhere, it ends far below the uniform policy; with a huge pull it stays what it was."""
    error = agents.reward_error(mlp)
    theta = init_mlp(jax.random.key(1), (2, 16, ARMS))
    late = lambda pull: jnp.diff(bandit.play(
        agents.greedy(fixed_pull(error, pull), theta, lambda phi, _, x: mlp(phi, x), optax.adam(0.02), 60, 64), Wheel(0.0), KEY, 20, RULES._replace(capacity=400)
    )[1])[-5:].sum() / 100  # fmt: skip
    assert late(0.0) < 0.25 * wheels.uniform_regret(0.0) < late(1e4)


# ---- Bayesian regression ---------------------------------------------------------------------------------------------


def test_the_posterior_is_the_closed_form(x64):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=7)
    prior = linear.Prior(0.5, 2.0, 3.0)
    sums = linear.add_rows(linear.add_rows(linear.no_rows(3), jnp.array(x[:4]), jnp.array(y[:4])), jnp.array(x[4:]), jnp.array(y[4:]))
    found = linear.posterior(sums, prior)
    precision = x.T @ x + 0.5 * np.eye(3)
    mean = np.linalg.solve(precision, x.T @ y)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-10)
    np.testing.assert_allclose(found.root @ found.root.T, precision, rtol=1e-10)
    assert float(found.shape) == 2 + 3.5
    assert float(found.scale) == pytest.approx(3 + 0.5 * (y @ y - mean @ precision @ mean), rel=1e-10)


def test_rows_of_weight_zero_do_not_count(x64):
    x, y = jnp.ones((2, 3)), jnp.array([1.0, 5.0])
    weighted = linear.add_rows(linear.no_rows(3), x, y, jnp.array([True, False]))
    jax.tree.map(np.testing.assert_array_equal, weighted, linear.add_rows(linear.no_rows(3), x[:1], y[:1]))


def test_samples_have_the_posterior_s_mean_and_covariance(x64):
    x = jnp.array(np.random.default_rng(1).normal(size=(20, 2)))
    belief = linear.posterior(linear.add_rows(linear.no_rows(2), x, x @ jnp.array([1.0, -2.0])), linear.Prior(1.0, 6.0, 6.0))
    drawn = jax.vmap(lambda k: linear.sample(belief, k))(jax.random.split(KEY, 20000))
    covariance = np.linalg.inv(belief.root @ belief.root.T) * float(belief.scale / (belief.shape - 1))
    np.testing.assert_allclose(drawn.mean(0), belief.mean, atol=4 * np.sqrt(covariance.max() / 20000))
    np.testing.assert_allclose(np.cov(drawn.T), covariance, rtol=0.1, atol=0.05 * covariance.max())


def test_single_precision_loses_the_noise_s_scale():
    """Why `lin_full_post` insists on double: large sums, a small difference."""
    x = np.stack([np.ones(20000), np.linspace(0, 1, 20000)], 1)
    y = 1000.0 + 0.1 * np.sin(np.arange(20000))

    def scale():
        return float(linear.posterior(linear.add_rows(linear.no_rows(2), jnp.array(x), jnp.array(y)), linear.Prior(1e-6, 1e-6, 1e-6)).scale)

    with jax.enable_x64(True):
        right = scale()
    assert right == pytest.approx(50, rel=0.05) and abs(scale() - right) > 0.9 * right


@pytest.mark.parametrize(
    "make", [agents.lin_greedy, agents.lin_full_post, lambda: agents.neural_linear(lambda k: init_mlp(k, (2, 8, ARMS)), jax.nn.relu, optax.adam(0.01), 5, 16)]
)
def test_the_field_s_agents_play_whole_games(make):
    with jax.enable_x64(True):
        game, regret = bandit.play(make(), Wheel(jnp.float32(0.5)), KEY, 4, RULES)
        assert bool(jnp.all(jnp.isfinite(regret))) and game.regret.dtype == jnp.float32


# ---- the runs --------------------------------------------------------------------------------------------------------


def test_a_shuffled_prior_has_the_same_numbers_in_another_order():
    theta = init_mlp(jax.random.key(0), (2, 8, ARMS))
    mixed = rewards.shuffled(KEY, theta)
    for a, b in zip(jax.tree.leaves(theta), jax.tree.leaves(mixed)):
        np.testing.assert_array_equal(np.sort(np.ravel(a)), np.sort(np.ravel(b)))
    assert not np.array_equal(theta[0]["w"], mixed[0]["w"])


def test_seeds_that_run_together_come_apart(tmp_path):
    from cmlcore.runs.experiment import Experiment, Training, apart, run_seed

    def build(settings):
        return Training(
            lambda seeds: seeds * 1.0,
            lambda state: (state + 1, {"value": state}),
            3,
            lambda seeds, state: {"error": state[:, None] + jnp.zeros(4)},
            lambda state: state,
        )

    one = Experiment("together", "A test.", rewards.Unprepared(0.0, 0.0), build, (4, 7), ("error", "one"), None, "none", together=True)
    outcomes = apart(run_seed(one, 4, tmp_path, report=lambda line: None), one.seeds)
    assert [o.seed for o in outcomes] == [4, 7] and outcomes[1].curve == {"value": [7.0, 8.0, 9.0]}
    np.testing.assert_array_equal(outcomes[1].scores["error"], [10.0] * 4)
    again = []
    run_seed(one, 4, tmp_path, report=again.append)
    assert "resumed at chunk 3" in again[0]


# ---- the chapter -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chapter():
    """What the chapter's first cell defines: the agent of regions and arms, the rule on it, and the prior that it learned."""
    path = Path(__file__).parent.parent / "book" / "rewards.ipynb"
    code = next(cell.source for cell in nbformat.read(path, as_version=4).cells if "def change(" in cell.source and cell.cell_type == "code")
    scope = {}
    exec(code, scope)
    return scope


def test_the_twelve_lines_are_the_package_s_rule(chapter):
    squares = lambda phi, omega, pulls: jnp.sum((phi[chapter["cell"](pulls.context), pulls.arm] - pulls.reward) ** 2)
    pulled = Problem(lambda phi, omega, pulls: squares(phi, omega, pulls) + jnp.sum((phi - omega) ** 2), squares)
    exact = newton(dense(), 1)
    task, omega = wheels.wheel_task(jax.random.key(9), 64, 50), jnp.array(chapter["OMEGA"])
    theirs = -contrastive(exact, exact, 0.1)(pulled, omega, task).grad
    ours = chapter["change"](omega, task)
    np.testing.assert_allclose(ours, theirs, atol=0.01 * float(jnp.max(jnp.abs(ours))))


def test_the_learned_prior_rises_as_the_probability_of_being_rich(chapter):
    """omega = 1 + 49 rho for the quadrant's arm, rho the mean distance from the hub in a ring; 1 and 1.2 for the others."""
    rings, omega = chapter["RINGS"], np.asarray(chapter["OMEGA"]).reshape(chapter["RINGS"], 4, ARMS)
    edges = np.arange(rings + 1) / rings
    middle = 2 / 3 * np.diff(edges**3) / np.diff(edges**2)
    own = omega[:, np.arange(4), np.arange(4)].mean(1)
    assert np.all(np.diff(own) > 0)
    np.testing.assert_allclose(own, 1 + 49 * middle, atol=4)
    np.testing.assert_allclose(omega[..., SAFE], 1.2, atol=0.05)


def test_the_receipts_of_rows_in_closed_form_agree_with_it():
    for delta in rewards.DELTAS:
        each = lambda row: np.array(receipts.read(f"rewards-{row}")["scores"][f"delta {delta}"]["each_seed"])
        assert abs(each("uniform").mean() - 100) < 3 * receipts.half_width(each("uniform"))
        never = 100 * float(wheels.bold_regret(delta) / wheels.uniform_regret(delta))
        opening = 100 * 10 / rewards.TRIALS  # ten pulls at random, at most all of them
        assert never - 3 * receipts.half_width(each("bold")) < each("bold").mean() < never + 3 * opening + 3 * receipts.half_width(each("bold"))
