"""PyTorch's version of the step of a fast read-out on slow features: one task after the other, each with all threads; eager and compiled."""

import torch
import torch.nn.functional as F
from pytorch_conv4 import features

ON_GPU = "tf32"


def unit(p, x):
    return F.normalize(features(p, x), dim=1)


def cases(arrays, device):
    """`(cases, answer, steps)`: functions by name, `() -> gradients` under this book's names, steps a run."""
    rate, momentum, free_steps, nudged_steps, beta = (float(v) for v in arrays["numbers"])
    taps = lambda w: w.reshape(3, 3, -1, w.shape[-1]).permute(3, 2, 0, 1).contiguous()
    back = lambda w: w.permute(2, 3, 1, 0).reshape(-1, w.shape[0])
    inside = lambda name: name.startswith("blocks") and name.endswith("w")
    p = {name.removeprefix("params."): torch.tensor(a, device=device) for name, a in arrays.items() if name.startswith("params.")}
    p = {name: (taps(value) if inside(name) else value).requires_grad_() for name, value in p.items()}
    support, query, of_query = (torch.tensor(arrays[name], device=device) for name in ("support", "query", "of_query"))
    count, ways = support.shape[:2]
    right, of_query = torch.eye(ways, device=device), F.one_hot(of_query.long(), ways).float()

    def learn(phi, steps, z, q, answers, pull, gain, nudge):
        """Nesterov's momentum on the read-out, its gradient written out."""
        trace = torch.zeros_like(phi)
        for _ in range(int(steps)):
            slope = z.T @ (torch.softmax(z @ phi, 1) - right) + 2 * pull * phi
            if nudge:
                slope = slope + nudge * gain / len(q) * (q.T @ (torch.softmax(gain * (q @ phi), 1) - answers))
            trace = slope + momentum * trace
            phi = phi - rate * (slope + momentum * trace)
        return phi

    def augmented(phi, z, q, answers, log_pull, log_gain, nudge):
        inner = -torch.sum(right * torch.log_softmax(z @ phi, 1)) + torch.exp(log_pull) * torch.sum(phi * phi)
        return inner - nudge * torch.mean(torch.sum(answers * torch.log_softmax(torch.exp(log_gain) * (q @ phi), 1), 1))

    def one(network, k):
        made = network(p, torch.cat([support[k], query[k]]))
        seen = [made[:ways].detach().requires_grad_(), made[ways:].detach().requires_grad_()]
        scalars = [p["log_pull"].detach().requires_grad_(), p["log_gain"].detach().requires_grad_()]
        with torch.no_grad():
            about = (*seen, of_query[k], *(torch.exp(s) for s in scalars))
            start = learn(torch.zeros(made.shape[1], ways, device=device), free_steps, *about, 0.0)
            ends = [learn(start, nudged_steps, *about, nudge) for nudge in (beta, -beta)]
        contrast = augmented(ends[0], *seen, of_query[k], *scalars, beta) - augmented(ends[1], *seen, of_query[k], *scalars, -beta)
        of_support, of_queries, *of_scalars = torch.autograd.grad(contrast / (2 * beta), [*seen, *scalars])
        blocks = {name: value for name, value in p.items() if name.startswith("blocks")}
        grads = torch.autograd.grad(made, blocks.values(), torch.cat([of_support, of_queries]))
        return dict(zip(blocks, grads)) | dict(zip(("log_pull", "log_gain"), of_scalars))

    def run(network):
        def both():
            each = [one(network, k) for k in range(count)]
            return {name: sum(g[name] for g in each) / count for name in each[0]}

        return both

    answer = lambda: {name: back(value) if inside(name) else value for name, value in run(unit)().items()}
    return {"eager": run(unit), "torch.compile of the network": run(torch.compile(unit))}, answer, 1
