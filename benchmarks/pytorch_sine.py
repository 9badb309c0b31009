"""PyTorch's version of the sine wave's meta-gradient: 25 tasks, a free and a nudged phase of Adam, and their contrast."""

import math

import torch
from torch.func import grad, vmap

RATE, FREE, NUDGED, BETA, PULL, LAYERS = 0.01, 500, 250, 0.1, 0.1, 3
ON_GPU = "float32"


def predict(p, x):
    for k in range(LAYERS):
        x = x @ p[f"{k}.w"] + p[f"{k}.b"]
        x = torch.tanh(x) if k < LAYERS - 1 else x
    return x


def error(p, x, y):
    return torch.mean((predict(p, x) - y) ** 2)


def free_loss(p, omega, sx, sy, qx, qy):
    return error(p, sx, sy) + PULL * sum(torch.sum((p[name] - omega[name]) ** 2) for name in p)


def nudged_loss(p, omega, sx, sy, qx, qy):
    return free_loss(p, omega, sx, sy, qx, qy) + BETA * error(p, qx, qy)


def adam_step(loss):
    """One step of all tasks: gradients by `torch.func`, Adam written out (Kingma & Ba 2015)."""
    gradient = vmap(grad(loss), (0, None, 0, 0, 0, 0))

    def step(p, m, v, first, second, omega, sx, sy, qx, qy):
        g = gradient(p, omega, sx, sy, qx, qy)
        m = {n: 0.9 * m[n] + 0.1 * g[n] for n in p}
        v = {n: 0.999 * v[n] + 0.001 * g[n] ** 2 for n in p}
        return {n: p[n] - RATE * (m[n] / first) / (torch.sqrt(v[n] / second) + 1e-8) for n in p}, m, v

    return step


def phase(step, p, steps, *rest):
    zeros = {name: torch.zeros_like(value) for name, value in p.items()}
    m, v = zeros, zeros
    corrections = torch.tensor([[1 - math.pow(0.9, t), 1 - math.pow(0.999, t)] for t in range(1, steps + 1)], device=rest[1].device)
    for first, second in corrections:
        p, m, v = step(p, m, v, first, second, *rest)
    return p


def meta_gradient(free_step, nudged_step, omega, task, free=FREE, nudged=NUDGED):
    """The mean over tasks of 2 lambda (phi_0 - phi_beta) / beta: the contrast of the pull's derivatives in omega."""
    start = {name: value.expand(len(task[0]), *value.shape) for name, value in omega.items()}
    settled = phase(free_step, start, free, omega, *task)
    pushed = phase(nudged_step, settled, nudged, omega, *task)
    return {name: torch.mean(2 * PULL * (settled[name] - pushed[name]) / BETA, 0) for name in omega}


def cases(arrays, device):
    """`(cases, answer, steps)`: functions by name, `() -> meta-gradient of a short run` under this book's names, steps a run."""
    omega = {n.removeprefix("params."): torch.tensor(a, device=device) for n, a in arrays.items() if n.startswith("params.")}
    task = [torch.tensor(arrays[n], device=device) for n in ("sx", "sy", "qx", "qy")]
    eager = adam_step(free_loss), adam_step(nudged_loss)
    fast = [torch.compile(step) for step in eager]
    found = {"torch.func, eager": lambda: meta_gradient(*eager, omega, task), "torch.compile(vmap(grad))": lambda: meta_gradient(*fast, omega, task)}
    short = int(arrays["free"]), int(arrays["nudged"])
    return found, lambda: meta_gradient(*eager, omega, task, *short), 1
