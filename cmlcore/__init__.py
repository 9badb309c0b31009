"""The contrastive meta-learning rule, its rivals and its models, in JAX.

What most programs need stands here, at the top: `cmlcore.Problem`, `cmlcore.Task`, `cmlcore.meta_gradient`, the rules (`cmlcore.matched`, ...)
and solvers (`cmlcore.gradient_descent`, ...), the outer loop (`cmlcore.meta_step`, ...), `cmlcore.self_check`. Everything else in its room:

bilevel      Problem, Task: an inner loss that learning minimizes, an outer loss that judges
solve        inner solvers: gradient descent, any optax transformation, mini-batches, until a gradient norm
estimate     Estimate, MetaGradient: the one interface of all estimators; meta_gradient, the checked call
meta         the outer loop and the meta-test
trees        arithmetic of trees
extras       what only a part of the package needs
estimators   the contrastive rule and its rivals
theory       closed forms, bounds, diagnostics, comparisons, self_check
models       networks, the error circuit, the energy network, the complex synapse, spikes and e-prop
data         sine waves, wheels, spikes, Omniglot, handwritten digits, CIFAR-10, natural images
bandits      games for rewards, and who plays them
speed        the same numbers in less time: written-out passes, a kernel, several devices
explore      figures whose sliders work in Jupyter and on the static page
runs         the book's full experiments: python -m cmlcore.runs
press        the book's own tools: notebooks, the site, editions for a class
"""

__version__ = "0.1.0"

import importlib

# Found when they are asked for, so that `import cmlcore` does not wait for JAX.
_NAMES = {
    "bilevel": ("Diverged", "Problem", "Task"),
    "solve": ("Result", "gradient_descent", "minibatch", "newton", "of_theta", "optimizer", "projected", "subsample", "until"),
    "estimate": ("Estimate", "NotSettled", "check_phases", "meta_gradient", "unwatched"),
    "estimators.contrastive": ("contrastive", "matched", "symmetric", "three_point"),
    "estimators.imaginary": ("contour", "imaginary", "tangent"),
    "estimators.implicit": ("cg", "dense", "identity", "implicit", "neumann"),
    "estimators.unroll": ("checkpointed", "forward_mode", "truncated", "unrolled"),
    "estimators.first_order": ("first_order", "reptile"),
    "theory.trust": ("self_check",),
    "meta": ("evaluate", "in_turn", "meta_start", "meta_step", "meta_steps", "over_sound_tasks", "over_tasks"),
}
HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(HOME)


def __getattr__(name: str):
    if name not in HOME:
        raise AttributeError(f"module 'cmlcore' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"cmlcore.{HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *HOME})
