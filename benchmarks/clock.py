"""Time compiled steps against one another, and the machine's own rates, which make the floor."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Case(NamedTuple):
    """One way to compute a step.

    run:       `() -> seconds` or anything else; runs the compiled step once and waits for its end.
    precision: of its products, which says whose rate makes the floor: `float32`, `tf32` or `bfloat16`.
    steps:     how many steps one run takes.
    """

    run: Callable[[], Any]
    precision: str = "float32"
    steps: int = 1


class Timing(NamedTuple):
    """Seconds a step: median, fastest and slowest of the runs; how many runs; seconds of the first call, compilation included."""

    median: float
    fastest: float
    slowest: float
    runs: int
    first: float


PRECISIONS = {"float32": (jnp.float32, "highest"), "tf32": (jnp.float32, "default"), "bfloat16": (jnp.bfloat16, "default")}


def compiled(fn: Callable, args: tuple, precision: str = "float32", steps: int = 1) -> Case:
    """`fn(*args)` as a case, compiled at its first run; on a CPU float32 is float32 whatever the precision asks for."""
    programs = []

    def run():
        if not programs:
            with jax.default_matmul_precision(PRECISIONS[precision][1]):
                programs.append(jax.jit(fn).lower(*args).compile())
        jax.block_until_ready(programs[0](*args))

    return Case(run, precision, steps)


def once(case: Case) -> float:
    """Seconds of one run; a case that times itself, in another process, returns them as a float."""
    start = time.perf_counter()
    result = case.run()
    return result if isinstance(result, float) else time.perf_counter() - start


def interleaved(cases: dict[str, Case], rounds: int = 15, seconds: float = 40.0, first: dict[str, float] | None = None) -> dict[str, Timing]:
    """Run all cases in turn, `rounds` times or until `seconds` are over, so that a noisy minute meets them all.

    Every case runs once after its first call; one whose runs have taken an eighth of `seconds` is not run again.
    first: seconds of first calls that were made elsewhere.
    """
    first = {name: (first or {}).get(name) or once(case) for name, case in cases.items()}
    taken = {name: [] for name in cases}
    end = time.perf_counter() + seconds
    for _ in range(rounds):
        for name, case in cases.items():
            if not taken[name] or (sum(taken[name]) < seconds / 8 and time.perf_counter() < end):
                taken[name].append(once(case))
    by_step = {name: [t / cases[name].steps for t in times] for name, times in taken.items()}
    return {name: Timing(statistics.median(t), min(t), max(t), len(t), first[name]) for name, t in by_step.items()}


# --- What the machine can do ------------------------------------------------------------------------------------------


def rates(on_gpu: bool) -> dict[str, float]:
    """Operations a second of a large product by precision, and `bandwidth`, bytes a second; the best of eleven runs each."""
    size = 8192 if on_gpu else 2048
    measured = {name: _product_rate(size, *PRECISIONS[name]) for name in (PRECISIONS if on_gpu else ("float32",))}
    return measured | {"bandwidth": _bandwidth(2**28 if on_gpu else 2**24)}


def _best(run: Callable[[], Any]) -> float:
    wait = Case(lambda: [jax.block_until_ready(run())])
    return min(once(wait) for _ in range(11))


def _product_rate(size: int, dtype, precision: str) -> float:
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=precision))
    return 2 * size**3 / _best(lambda: product(a))


def _bandwidth(count: int) -> float:
    x = jnp.ones(count, jnp.float32)
    add = jax.jit(lambda x: x + 1)
    return 2 * x.nbytes / _best(lambda: add(x))


def floor_seconds(floor: dict, measured: dict[str, float], precision: str) -> tuple[float, str]:
    """The least time that a step can take, and which unit sets it: `operations` over their rate, or `bytes` over the bandwidth."""
    by_unit = {
        "operations": floor["operations"] / measured.get(precision, measured["float32"]),
        "bytes": floor["bytes"] / measured["bandwidth"],
    }
    unit = max(by_unit, key=by_unit.get)
    return by_unit[unit], unit
