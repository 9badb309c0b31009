"""Every compiled step of a full run, lowered for CUDA without computing it: none carries a data set inside."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from cmlcore.runs import hyperparameters, slow_features
from cmlcore.runs.catalog import find

LIMIT = 2_000_000  # bytes of a program as text
REAL = jax.jit


def stand_in(leaf):
    """An array of that shape and type, a number 0. Not of equal numbers: those take no room in a program."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0), leaf.shape)
    return (jnp.arange(math.prod(leaf.shape)) % 3).reshape(leaf.shape).astype(leaf.dtype)


class Recorder:
    """In the place of `jax.jit`: a function called with arrays is lowered for CUDA, its size noted, and something of the right
    shape comes back; within another one's trace it is what it was."""

    def __init__(self):
        self.sizes = []

    def __call__(self, function=None, **options):
        real = REAL(function, **options)

        def called(*args, **named):
            if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, named))):
                return real(*args, **named)
            traced = real.trace(*args, **named)
            self.sizes.append(len(traced.lower(lowering_platforms=("cuda",)).as_text()))
            return jax.tree.map(stand_in, traced.out_info)

        # What is compiled ahead to be weighed and timed, is lowered as well.
        called.lower = lambda *args, **named: SimpleNamespace(compile=lambda: lambda: called(*args, **named))
        return called


@pytest.fixture
def recorded(monkeypatch):
    """The sizes of what was lowered so far."""
    recorder = Recorder()
    monkeypatch.setattr(jax, "jit", recorder)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(hyperparameters, "seconds", lambda run, *args, **options: [0.0])
    monkeypatch.setattr(hyperparameters, "compiled_memory", lambda run: SimpleNamespace(temporary=0))
    return recorder.sizes


# One run for every way in which data come into a compiled step; methods that share it differ in their estimators alone.
NAMES = (
    "digits-eqprop",
    "sine-cml-full",
    "omniglot-small-matched",
    "omniglot-small-scratch",
    "omniglot-small-pixels",
    "modulation-cifar-fs-5w1s-channels-small",
    "hyper-demo-identity",
    "hyper-demo-none",
    "hyper-demo-all",
    "hyper-demo-memory",
    "hyper-mnist-identity",
    "spikes-rule-eprop",
    "rewards-scratch",
    "hippo-none",
    "hippo-one-blocked",
)
BUILDS = {name: (find(name).build, find(name).settings) for name in NAMES} | {
    "slow features": (slow_features.train_symmetric, slow_features.Features()),
}


@pytest.mark.parametrize("name", BUILDS)
def test_no_program_carries_a_data_set(name, recorded):
    build, settings = BUILDS[name]
    try:
        training = build(settings)
    except (FileNotFoundError, ConnectionError) as missing:
        pytest.skip(str(missing))
    seeds = jnp.asarray(find(name).seeds) if name in NAMES and find(name).together else 0
    state = training.start(seeds)
    if training.chunks:
        state, _ = training.advance(state)
    training.test(seeds, state)
    assert recorded and max(recorded) < LIMIT


def test_a_data_set_that_is_carried_would_be_found(recorded):
    data = jax.random.normal(jax.random.key(0), (1000, 1000))
    jax.jit(lambda x: x + data)(jnp.ones(1000))
    jax.jit(lambda x, data: x + data)(jnp.ones(1000), data)
    assert recorded[0] > LIMIT > 1000 * recorded[1]
