"""One library's ways to one meta-gradient, in a process of its own: `python peers_worker.py LIBRARY arrays.npz`.

Every way is a function `(theta, x, y, qx, qy) -> gradient` that holds all that a user of the library writes, the two losses apart; these stand
here once for JAX and once for PyTorch. Inner learning is the same for all: `STEPS` steps of gradient descent at `RATE`, from zero.

Answers one JSON line: version, device, and by way its error, seconds of compilation, seconds of the first call, bytes of temporary memory, lines; then,
for each way named on standard input, the seconds of one run.
"""

import ast
import importlib
import inspect
import json
import sys
import textwrap
import time
import warnings
from importlib import metadata

RATE, STEPS, PRODUCTS, BETA = 1.0, 1000, 30, 0.001  # the nudge at which `cmlcore.self_check`, asked for 1 %, has nothing to object to


# ---- the problem: logistic regression, and a strength for every weight, as its logarithm theta -------------------------------------


def loss_in_jax(w, x, y):
    import jax.numpy as jnp

    return jnp.mean(jnp.logaddexp(0.0, -y * (x @ w)))


def pulled_in_jax(w, theta, x, y):
    import jax.numpy as jnp

    return loss_in_jax(w, x, y) + jnp.sum(jnp.exp(theta) * w**2)


def loss_in_torch(w, x, y):
    import torch

    return torch.nn.functional.softplus(-y * (x @ w)).mean()


def pulled_in_torch(w, theta, x, y):
    return loss_in_torch(w, x, y) + (theta.exp() * w**2).sum()


# ---- the ways ------------------------------------------------------------------------------------------------------------------------


def cmlcore_matched(theta, x, y, qx, qy):
    import jax.numpy as jnp

    import cmlcore

    problem = cmlcore.Problem(lambda w, th, d: pulled_in_jax(w, th, *d), lambda w, th, d: loss_in_jax(w, *d), init=lambda th, d: jnp.zeros_like(th))
    learner = cmlcore.gradient_descent(RATE, STEPS)
    rule = cmlcore.matched(learner, learner, BETA)
    return rule(problem, theta, cmlcore.Task((x, y), (qx, qy))).grad


def cmlcore_implicit(theta, x, y, qx, qy):
    import jax.numpy as jnp

    import cmlcore
    from cmlcore.estimators.implicit import implicit

    problem = cmlcore.Problem(lambda w, th, d: pulled_in_jax(w, th, *d), lambda w, th, d: loss_in_jax(w, *d), init=lambda th, d: jnp.zeros_like(th))
    rule = implicit(cmlcore.gradient_descent(RATE, STEPS), cmlcore.cg(PRODUCTS))
    return rule(problem, theta, cmlcore.Task((x, y), (qx, qy))).grad


def jaxopt_implicit(theta, x, y, qx, qy):
    from functools import partial

    import jax
    import jax.numpy as jnp
    import jaxopt

    linear = partial(jaxopt.linear_solve.solve_cg, maxiter=PRODUCTS)
    solver = jaxopt.GradientDescent(pulled_in_jax, stepsize=RATE, maxiter=STEPS, tol=0.0, acceleration=False, implicit_diff=True, implicit_diff_solve=linear)
    return jax.grad(lambda th: loss_in_jax(solver.run(jnp.zeros_like(th), th, x, y).params, qx, qy))(theta)


def optimistix_implicit(theta, x, y, qx, qy):
    import jax
    import jax.numpy as jnp
    import optimistix as optx

    solver = optx.GradientDescent(learning_rate=RATE, rtol=0.0, atol=0.0)
    learn = lambda th: optx.minimise(lambda w, th: pulled_in_jax(w, th, x, y), solver, jnp.zeros_like(th), th, max_steps=STEPS, throw=False).value
    return jax.grad(lambda th: loss_in_jax(learn(th), qx, qy))(theta)


def torchopt_root(theta, x, y, qx, qy):
    import torch
    import torchopt

    slope = torch.func.grad(lambda w, th: pulled_in_torch(w, th, x, y))

    @torchopt.diff.implicit.custom_root(slope, argnums=1, solve=torchopt.linear_solve.solve_cg(maxiter=PRODUCTS))
    def learn(w, th):
        for _ in range(STEPS):
            w = w - RATE * slope(w, th)
        return w

    theta = theta.clone().requires_grad_()
    return torch.autograd.grad(loss_in_torch(learn(torch.zeros_like(theta), theta), qx, qy), theta)[0]


WAYS = {  # library: its ways by name
    "cmlcore": {"matched": cmlcore_matched, "implicit, cg": cmlcore_implicit},
    "jaxopt": {"implicit_diff, cg": jaxopt_implicit},
    "optimistix": {"ImplicitAdjoint": optimistix_implicit},
    "torchopt": {"custom_root, cg": torchopt_root},
}


# ---- what is measured ----------------------------------------------------------------------------------------------------------------


def lines(fn) -> int:
    """Lines of a function's body as Python writes it out again: one a statement, without comments and docstrings, however it is wrapped."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(fn))).body
    return len([line for part in node.body if not _is_docstring(part) for line in ast.unparse(part).splitlines() if line.strip()])


def _is_docstring(node) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def timed(run):
    start = time.perf_counter()
    result = run()
    return result, time.perf_counter() - start


def in_jax(fn, arrays):
    """`(run, measured)` of a way in JAX, compiled."""
    import jax
    import jax.numpy as jnp

    args = [jnp.asarray(arrays[name]) for name in ("theta", "x", "y", "qx", "qy")]
    program, seconds = timed(lambda: jax.jit(fn).lower(*args).compile())
    memory = getattr(program.memory_analysis(), "temp_size_in_bytes", None)
    return lambda: jax.block_until_ready(program(*args)), {"compile_s": seconds, "memory_bytes": memory}


def in_torch(fn, arrays):
    """`(run, measured)` of a way in PyTorch, eager: nothing is compiled, and nobody says how much memory it takes."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    args = [torch.tensor(arrays[name], device=device) for name in ("theta", "x", "y", "qx", "qy")]

    def run():
        found = fn(*args).detach().cpu()  # which waits for the device
        return found.numpy()

    return run, {"compile_s": None, "memory_bytes": None}


def main(library: str, path: str) -> None:
    import numpy as np

    warnings.filterwarnings("ignore")
    arrays, runs, found = dict(np.load(path)), {}, {}
    importlib.import_module(library)
    for name, fn in WAYS[library].items():
        try:
            run, measured = (in_torch if library == "torchopt" else in_jax)(fn, arrays)
            answer, first = timed(run)
        except Exception as error:  # a way that this version cannot go is a row that says so
            found[name] = {"failed": f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0][:200]}"}
            continue
        exact = arrays["exact"]
        error = float(np.linalg.norm(np.asarray(answer, np.float64) - exact) / np.linalg.norm(exact))
        runs[name], found[name] = run, {"error": error, "first_s": first, "lines": lines(fn)} | measured
    versions = {package: metadata.version(package) for package in (library, "torch" if library == "torchopt" else "jax") if package != "cmlcore"}
    say({"versions": versions, "ways": found})
    for line in sys.stdin:
        say(timed(runs[line.strip()])[1])


def say(message) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
