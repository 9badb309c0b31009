"""PyTorch's version of conv4's inner step: every task its own weights; in a loop, by `torch.func`, and compiled."""

import torch
import torch.nn.functional as F
from torch.func import grad, vmap

RATE, STEPS = 0.01, 5
ON_GPU = "tf32"  # what PyTorch computes convolutions in there, unless told otherwise


def features(p, x):
    x = x[:, None]
    for b in range(4):
        x = F.conv2d(x, p[f"blocks.{b}.w"], p[f"blocks.{b}.b"], padding=1)
        x = F.batch_norm(x, None, None, p[f"blocks.{b}.scale"], p[f"blocks.{b}.shift"], training=True, eps=1e-5)
        x = F.max_pool2d(F.relu(x), 2)
    return x.permute(0, 2, 3, 1).flatten(1)


def network(p, x):
    return features(p, x) @ p["w"] + p["b"]


def loss(p, x, y):
    return F.cross_entropy(network(p, x), y)


def step(p, x, y):
    gradient = grad(loss)(p, x, y)
    return {name: p[name] - RATE * gradient[name] for name in p}


def step_of_one(p, x, y):
    """With `torch.autograd`, as PyTorch is usually written."""
    leaves = {name: value.detach().requires_grad_() for name, value in p.items()}
    gradient = torch.autograd.grad(loss(leaves, x, y), leaves.values())
    return {name: value.detach() - RATE * g for (name, value), g in zip(leaves.items(), gradient)}


def loop(p, x, y):
    each = [step_of_one({name: value[k] for name, value in p.items()}, x[k], y[k]) for k in range(len(x))]
    return {name: torch.stack([one[name] for one in each]) for name in p}


def cases(arrays, device):
    """`(cases, answer, steps)`: functions by name, `() -> gradients` under this book's names, steps a run."""
    taps = lambda w: w.reshape(len(w), 3, 3, -1, w.shape[-1]).permute(0, 4, 3, 1, 2).contiguous()
    back = lambda w: w.permute(0, 3, 4, 2, 1).reshape(len(w), -1, w.shape[1])
    inside = lambda name: name.startswith("blocks") and name.endswith("w")
    p = {name.removeprefix("params."): torch.tensor(a, device=device) for name, a in arrays.items() if name.startswith("params.")}
    p = {name: taps(value) if inside(name) else value for name, value in p.items()}
    x, y = torch.tensor(arrays["x"], device=device), torch.tensor(arrays["y"], device=device).long()

    def run(one_step):
        def steps():
            q = p
            for _ in range(STEPS):
                q = one_step(q, x, y)
            return q

        return steps

    together = vmap(step)
    found = {"loop over tasks": run(loop), "torch.func.vmap(grad)": run(together), "torch.compile(vmap(grad))": run(torch.compile(together))}
    answer = lambda: {name: back(value) if inside(name) else value for name, value in vmap(grad(loss))(p, x, y).items()}
    return found, answer, STEPS
