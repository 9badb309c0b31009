"""Spiking networks: traces against a loop, e-prop against backpropagation through time, and what a synapse can compute by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmlcore import trees
from cmlcore.bilevel import Task
from cmlcore.data.sine import Points
from cmlcore.data.spikes import encode, spiking_task, tuning
from cmlcore.estimators.contrastive import contrastive, matched, symmetric, three_point
from cmlcore.estimators.first_order import first_order, reptile
from cmlcore.estimators.implicit import cg, implicit, neumann
from cmlcore.estimators.unroll import checkpointed, forward_mode, truncated, unrolled
from cmlcore.models import eprop, spiking
from cmlcore.models.eprop import Rate
from cmlcore.models.spiking import Cell, Weights, fast_sigmoid, init_weights, run, triangle
from cmlcore.models.synapse import fixed_pull
from cmlcore.solve import gradient_descent, optimizer
from cmlcore.theory.diagnostics import memory

CELL, PSI, RATE = Cell(0.9, 0.8, 0.5), triangle(0.3, 0.5), Rate(0.5, 0.1)
SOURCES = {"carried": eprop.eprop, "stored": eprop.stored}


def network(key=0, inputs=4, neurons=5, outputs=2) -> Weights:
    return init_weights(jax.random.key(key), inputs, neurons, outputs, (0.4, 0.5, 1.0))


def examples(key=1, count=3, steps=12, inputs=4, outputs=2) -> Points:
    spikes, targets = jax.random.split(jax.random.key(key))
    return Points(jax.random.bernoulli(spikes, 0.25, (count, steps, inputs)).astype(float), jax.random.normal(targets, (count, outputs)))


def task(key=1) -> Task:
    return Task(examples(key), examples(key + 1))


def close(a, b, tolerance):
    assert float(trees.relative_error(a, b)) < tolerance


# ---- encoding --------------------------------------------------------------------------------------------------------


def test_neurons_fire_as_often_as_their_tuning_says():
    x = jnp.linspace(-5, 5, 7)[:, None]
    trains = encode(jax.random.key(0), x, steps=4000, neurons=20, variance=2e-3)
    expected = tuning(x[:, 0], 20, 2e-3)
    np.testing.assert_allclose(trains.mean(1), expected, atol=4 * 0.5 / np.sqrt(4000))
    assert set(np.unique(trains)) == {0.0, 1.0}


def test_the_best_tuned_neuron_is_the_nearest():
    np.testing.assert_array_equal(jnp.argmax(tuning(jnp.array([-5.0, 0.0, 5.0]), 101), -1), [0, 50, 100])


def test_a_task_is_a_wave_whose_inputs_are_spikes():
    one = spiking_task(jax.random.key(3), 10, 7)
    assert one.support.x.shape == (10, 20, 100) and one.query.x.shape == (7, 20, 100) and one.query.y.shape == (7, 1)
    assert bool(jnp.all(jnp.abs(one.support.y) <= 5))


@pytest.mark.parametrize("steps, neurons", [(0, 100), (20, 1)])
def test_a_code_without_steps_or_neurons_is_refused(steps, neurons):
    with pytest.raises(ValueError, match="one step and two neurons"):
        encode(jax.random.key(0), jnp.zeros((1, 1)), steps, neurons)


# ---- the network, by a loop ------------------------------------------------------------------------------------------


def by_loop(w: Weights, cell: Cell, psi, x):
    """Voltages, spikes, psi, readout and both traces, one number at a time."""
    into, among, out = (np.asarray(m, np.float64) for m in w)
    neurons, outputs = out.shape
    v, z, y = np.zeros(neurons), np.zeros(neurons), np.zeros(outputs)
    from_in, from_z = np.zeros(into.shape[0]), np.zeros(neurons)
    rows = []
    for now in np.asarray(x):
        before = z.copy()
        for i in range(into.shape[0]):
            from_in[i] = cell.alpha * from_in[i] + now[i]
        for j in range(neurons):
            from_z[j] = cell.alpha * from_z[j] + before[j]
            v[j] = cell.alpha * v[j] + now @ into[:, j] + before @ among[:, j] - cell.threshold * before[j]
        z = (v > cell.threshold).astype(float)
        y = cell.kappa * y + z @ out
        rows.append([np.copy(r) for r in (z, v, np.asarray(psi(jnp.asarray(v - cell.threshold))), y, from_in, from_z)])
    return [np.stack(column) for column in zip(*rows)]


def test_voltages_spikes_and_traces_are_those_of_a_loop(x64):
    w, x = network(), examples(count=1, steps=30).x[0]
    record = run(w, CELL, PSI, x)
    assert 0.05 < float(record.spikes.mean()) < 0.8
    for found, expected in zip(record, by_loop(w, CELL, PSI, x)):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_spike_takes_the_threshold_off_and_no_more():
    w = Weights(jnp.full((1, 1), 0.8), jnp.zeros((1, 1)), jnp.ones((1, 1)))
    record = run(w, Cell(1.0, 1.0, 0.5), PSI, jnp.ones((2, 1)))
    np.testing.assert_allclose(record.voltage[:, 0], [0.8, 0.8 + 0.8 - 0.5], rtol=1e-6)
    np.testing.assert_array_equal(record.spikes[:, 0], [1, 1])


@pytest.mark.parametrize("psi", [triangle(0.3, 0.5), fast_sigmoid(10.0)])
def test_the_derivative_of_a_spike_is_its_surrogate(psi):
    u = jnp.linspace(-1, 1, 11)
    found = jax.vmap(jax.value_and_grad(lambda u: spiking.spike(psi, u)))(u)
    np.testing.assert_array_equal(found[0], u > 0)
    np.testing.assert_allclose(found[1], psi(u))


# ---- e-prop and backpropagation through time -------------------------------------------------------------------------


def without_recurrence(w: Weights) -> Weights:
    return w._replace(among=jnp.zeros_like(w.among))


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_eprop_is_backpropagation_where_no_spike_comes_back(source, x64):
    w, points = without_recurrence(network()), examples()
    (value, found), (expected, exact) = source(CELL, PSI, RATE)(w, points), eprop.bptt(CELL, PSI, RATE)(w, points)
    assert float(value) == pytest.approx(float(expected), rel=1e-12)
    for mine, theirs in zip(found, exact):
        assert float(jnp.max(jnp.abs(theirs))) > 1e-3
        np.testing.assert_allclose(mine, theirs, atol=1e-13)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_eprop_is_backpropagation_that_is_cut_at_recurrent_spikes(source, x64):
    w, points = network(), examples()
    cut = jax.grad(eprop.error(CELL, PSI, RATE, cut=True))(w, points)
    close(source(CELL, PSI, RATE)(w, points)[1], cut, 1e-13)
    assert float(trees.relative_error(cut, eprop.bptt(CELL, PSI, RATE)(w, points)[1])) > 0.01


def test_two_neurons_and_one_recurrent_synapse_by_hand(x64):
    """Input drives neuron 0 at t = 0; its spike drives neuron 1 at t = 1; only neuron 1 is read out. What the input's synapse does to the
    output goes through the recurrent one, so backpropagation gives it dv1/dv0 = psi_0 w_rec, and e-prop nothing."""
    w_in, w_rec, w_out, threshold, target = 0.6, 0.7, 2.0, 0.5, -1.0
    w = Weights(jnp.array([[w_in, 0.0]]), jnp.array([[0.0, w_rec], [0.0, 0.0]]), jnp.array([[0.0], [w_out]]))
    points = Points(jnp.array([[[1.0], [0.0]]]), jnp.array([[target]]))
    cell, psi = Cell(0.9, 0.8, threshold), triangle(0.3, threshold)
    psi_0, psi_1 = (0.3 * (1 - abs(u - threshold) / threshold) for u in (w_in, w_rec))
    output = w_out / 2  # one spike of neuron 1 at the last of two steps
    signal = 2 * (output - target) * w_out / 2  # dE/dz of that spike
    _, by_eprop = eprop.eprop(cell, psi)(w, points)
    _, exact = eprop.bptt(cell, psi)(w, points)
    assert float(by_eprop.among[0, 1]) == pytest.approx(signal * psi_1) == pytest.approx(float(exact.among[0, 1]))
    # In time as well: v0 decays, so the input's synapse of neuron 0 matters at t = 0 alone for what neuron 1 hears at t = 1.
    assert float(exact.into[0, 0]) == pytest.approx(signal * psi_1 * w_rec * psi_0)
    assert float(by_eprop.into[0, 0]) == 0.0
    # The silent synapse of neuron 1 has a trace of its own in both.
    assert float(by_eprop.into[0, 1]) == pytest.approx(signal * psi_1 * 0.9) == pytest.approx(float(exact.into[0, 1]))


def test_random_feedback_differs_from_the_read_out_and_leaves_its_own_weights_alone(x64):
    w, points = network(), examples()
    fixed = jax.random.normal(jax.random.key(7), w.out.shape)
    _, symmetric_ = eprop.eprop(CELL, PSI, RATE)(w, points)
    _, random = eprop.eprop(CELL, PSI, RATE, fixed)(w, points)
    close(random, eprop.stored(CELL, PSI, RATE, fixed)(w, points)[1], 1e-13)
    close(eprop.eprop(CELL, PSI, RATE, w.out)(w, points)[1], symmetric_, 1e-13)
    np.testing.assert_allclose(random.out, symmetric_.out)
    assert float(trees.cosine(random.into, symmetric_.into)) < 0.9


def test_the_memory_of_eprop_is_flat_in_time_and_that_of_backpropagation_is_not():
    w = network(inputs=4, neurons=5)

    def needed(source, steps):
        return memory(source(CELL, PSI, RATE), w, examples(steps=steps)).temporary

    growth = {name: needed(source, 800) - needed(source, 100) for name, source in {**SOURCES, "bptt": eprop.bptt}.items()}
    inputs = 700 * 3 * 4 * 4  # the spikes that come in: XLA keeps one copy of them, in the order of time
    assert growth["carried"] <= inputs
    assert growth["bptt"] > 5 * inputs and growth["stored"] > 5 * inputs


# ---- as a plug -------------------------------------------------------------------------------------------------------


LOSS = eprop.plugged(eprop.stored(CELL, PSI, RATE), "e-prop")
DESCENT, ADAM = gradient_descent(0.05, 3), optimizer(optax.adam(0.01), 3)
SECOND = {
    "unrolled": unrolled(DESCENT),
    "truncated": truncated(DESCENT, 2),
    "checkpointed": checkpointed(DESCENT),
    "forward_mode": forward_mode(DESCENT),
    "implicit, cg": implicit(DESCENT, cg(2)),
    "implicit, neumann": implicit(DESCENT, neumann(2, 0.1)),
}


def test_the_derivative_of_the_loss_is_the_plug(x64):
    w, points = network(), examples()
    value, grad = jax.value_and_grad(lambda w: 3 * LOSS(w, points))(w)
    expected, exact = eprop.stored(CELL, PSI, RATE)(w, points)
    assert float(value) == pytest.approx(3 * float(expected)) == pytest.approx(3 * float(LOSS(w, points)))
    close(grad, trees.scale(3, exact), 1e-14)


@pytest.mark.parametrize("rule, solver", [(contrastive, DESCENT), (symmetric, ADAM), (three_point, DESCENT), (matched, ADAM)])
def test_every_contrastive_estimator_takes_it_as_it_is(rule, solver, x64):
    """And gives what it gives on the loss that is cut at recurrent spikes, whose derivative is the same by another way."""
    theta = network()
    cut = eprop.error(CELL, PSI, RATE, cut=True)
    both = jax.jit(lambda theta: [rule(solver, solver, 0.1)(fixed_pull(loss, 0.3), theta, task())._replace(info={}).grad for loss in (LOSS, cut)])
    found, expected = both(theta)
    assert float(trees.norm(expected)) > 1e-3
    close(found, expected, 1e-8)


@pytest.mark.parametrize("estimator", [first_order(DESCENT), reptile(DESCENT)], ids=["first_order", "reptile"])
def test_first_order_estimators_take_it_too(estimator):
    assert float(trees.norm(estimator(fixed_pull(LOSS, 0.3), network(), task()).grad)) > 0


@pytest.mark.parametrize("estimator", SECOND.values(), ids=SECOND)
def test_who_needs_second_derivatives_is_told_by_name(estimator):
    with pytest.raises(TypeError, match="e-prop gives first derivatives only.*matched"):
        estimator(fixed_pull(LOSS, 0.3), network(), task())


def second(loss, w, points):
    """How the derivative in the first input's synapse changes with all weights, by two reverse passes."""
    return jax.grad(lambda w: jax.grad(loss)(w, points).into[0, 0])(w)


LOSSES = {"bptt": eprop.error(CELL, PSI), "open": eprop.opened(eprop.stored(CELL, PSI)), "open, carried": eprop.opened(eprop.eprop(CELL, PSI))}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_the_second_derivative_of_one_spike_by_hand(loss, x64):
    """g = psi(v) 2 (Y - y*) w_out with v = w_in, so dg/dw_in = psi' 2 (Y - y*) w_out + 2 (w_out psi)^2. A custom derivative loses the last term in `scan`."""
    w, points = Weights(jnp.array([[0.7]]), jnp.zeros((1, 1)), jnp.array([[1.3]])), Points(jnp.ones((1, 1, 1)), jnp.array([[2.0]]))
    psi, slope = 0.3 * (1 - 0.2 / 0.5), -0.3 / 0.5
    assert float(second(loss, w, points).into[0, 0]) == pytest.approx(slope * 2 * (1.3 - 2) * 1.3 + 2 * (1.3 * psi) ** 2)


@pytest.mark.parametrize("name", ["open", "open, carried"])
def test_an_opened_plug_is_differentiated_through_its_own_computations(name, x64):
    """Without recurrence e-prop is backpropagation, and so are the second derivatives."""
    w, points = without_recurrence(network()), examples()
    found, exact = second(LOSSES[name], w, points), second(LOSSES["bptt"], w, points)
    np.testing.assert_allclose(found.into, exact.into, atol=1e-12)
    np.testing.assert_allclose(found.out, exact.out, atol=1e-12)
    assert float(jnp.max(jnp.abs(exact.into))) > 1e-4


# ---- what one synapse computes by itself -----------------------------------------------------------------------------


def own_update(before, after_voltage, signal, to_rate, cell, height):
    """dE/dw of one synapse from the spikes that reach it (T,), its neuron's voltage (T,), and two broadcast numbers."""
    trace, filtered, mean, total = 0.0, 0.0, 0.0, 0.0
    for came, voltage in zip(before, after_voltage):
        trace = cell.alpha * trace + came
        psi = height * max(0.0, 1 - abs(voltage - cell.threshold) / cell.threshold)
        filtered = cell.kappa * filtered + psi * trace
        mean, total = mean + filtered / len(before), total + psi * trace
    return signal * mean + to_rate * total


def learned_by_hand(w: Weights, omega: Weights, pull, rate, steps, phases):
    """Gradient descent in which every synapse uses its own variables. phases: (points, weight) that are learned together."""
    w = [np.array(m, np.float64) for m in w]
    for _ in range(steps):
        change = [2 * pull * (m - np.asarray(o)) for m, o in zip(w, omega)]
        for points, weight in phases:
            into, among, out = w
            count = len(points.x)
            loops = [by_loop(Weights(*w), CELL, PSI, x) for x in points.x]
            firing, neurons = np.mean([z for z, *_ in loops]), among.shape[0]
            to_rate = 2 * RATE.strength * (firing - RATE.target) / (count * len(points.x[0]) * neurons)
            for (z, v, _, y, *_), x, target in zip(loops, np.asarray(points.x), np.asarray(points.y)):
                away = 2 / count * (y.mean(0) - target)
                earlier = np.concatenate([np.zeros((1, neurons)), z[:-1]])
                for j in range(neurons):
                    signal = out[j] @ away
                    for i in range(into.shape[0]):
                        change[0][i, j] += weight * own_update(x[:, i], v[:, j], signal, to_rate, CELL, 0.3)
                    for i in range(neurons):
                        change[1][i, j] += weight * own_update(earlier[:, i], v[:, j], signal, to_rate, CELL, 0.3)
                    shown = np.mean([sum(CELL.kappa ** (t - s) * z[s, j] for s in range(t + 1)) for t in range(len(z))])
                    change[2][j] += weight * shown * away
        w = [m - rate * c for m, c in zip(w, change)]
    return w


def test_synapses_by_themselves_do_what_the_estimator_says(x64):
    """Learning, free and nudged, and the slow weight's change 2 lambda / beta (phi_beta - phi_0), all from what a synapse has at hand."""
    omega, one, pull, beta, rate = network(), task(), 0.3, 0.5, 0.1
    free = learned_by_hand(omega, omega, pull, rate, 2, [(one.support, 1.0)])
    nudged = learned_by_hand(free, omega, pull, rate, 2, [(one.support, 1.0), (one.query, beta)])
    rule = contrastive(gradient_descent(rate, 2), gradient_descent(rate, 2), beta)
    theirs = jax.jit(lambda omega: rule(fixed_pull(LOSS, pull), omega, one)._replace(info={}))(omega)
    for phi, mine in zip(theirs.phi, free):
        np.testing.assert_allclose(phi, mine, atol=1e-10)
    for slow, before, after in zip(theirs.grad, free, nudged):
        # The estimator's derivative of the nudged loss in omega is that of the pull alone.
        np.testing.assert_allclose(-slow, 2 * pull / beta * (after - before), atol=1e-8)
    assert float(trees.norm(theirs.grad)) > 1e-2
