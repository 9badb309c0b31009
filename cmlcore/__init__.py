"""The contrastive meta-learning rule, its rivals and its models, in JAX.

What most programs need stands here, at the top: `cmlcore.Problem`, `cmlcore.Task`, `cmlcore.meta_gradient`, the rules (`cmlcore.matched`, ...)
and solvers (`cmlcore.gradient_descent`, ...), the outer loop (`cmlcore.meta_step`, ...), `cmlcore.self_check`. Everything else in its module:

bilevel      Problem, Task: an inner loss that learning minimizes, an outer loss that judges
solve        inner solvers: gradient descent, any optax transformation, mini-batches, until a gradient norm
estimate     Estimate, MetaGradient: the one interface of all estimators; meta_gradient, the checked call
contrastive  contrastive, symmetric, three_point, matched: learning twice
trust        self_check: is a meta-gradient to be believed? half the nudge, twice the steps
imaginary    imaginary, contour, tangent: learning once, in the complex plane
holomorphic  what learning with complex parameters needs: losses and Adam continued, everything else refused
implicit     implicit differentiation with cg, neumann, identity (T1-T2), dense, damped
unroll       backpropagation through training: unrolled (MAML), truncated, checkpointed, forward_mode
first_order  first_order (MAML without second derivatives), reptile
meta         the outer loop and the meta-test
quadratic    problems whose meta-gradient is known in closed form
bound        how wrong the rule is: the bound on its error, the best nudge, the powers that follow
theorem      both sides of the theorem of equilibrium propagation
equilibrium  relaxation of an energy's state; a nudged relaxation against backpropagation, step by step
diagnostics  agreement, order_in_beta, memory, blind
compare      all estimators against the exact answer: error, cost, and the wish-list
count        first and second derivatives of the losses, counted in the traced program
bandit       games between agents and a contextual bandit, all dealt by a key
agents       who plays: networks with a prior, and the linear agents of the field
models       networks, the error circuit, the energy network, the complex synapse, spikes and e-prop
data         sine waves, wheels, Omniglot, handwritten digits
explore      figures whose sliders work in Jupyter and on the static page
runs         the book's full experiments: python -m cmlcore.runs
"""

__version__ = "0.1.0"

import importlib

# Found when they are asked for, so that `import cmlcore` does not wait for JAX.
_NAMES = {
    "bilevel": ("Diverged", "Problem", "Task"),
    "solve": ("Result", "gradient_descent", "minibatch", "newton", "of_theta", "optimizer", "projected", "subsample", "until"),
    "estimate": ("Estimate", "NotSettled", "check_phases", "meta_gradient"),
    "contrastive": ("matched", "symmetric", "three_point"),
    "imaginary": ("contour", "tangent"),
    "implicit": ("cg", "dense", "identity", "neumann"),
    "unroll": ("checkpointed", "forward_mode", "truncated", "unrolled"),
    "first_order": ("reptile",),
    "trust": ("self_check",),
    "meta": ("evaluate", "in_turn", "meta_start", "meta_step", "meta_steps", "over_sound_tasks", "over_tasks"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'cmlcore' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"cmlcore.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *_HOME})
