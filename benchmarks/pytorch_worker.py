"""Runs PyTorch's versions of a step in a process of their own: `python pytorch_worker.py MODULE arrays.npz`.

Answers one JSON line with versions, seconds of the first calls and the agreement with JAX's numbers; then, for each case
named on standard input, the seconds of one run.
"""

import importlib
import json
import sys
import time
import warnings


def seconds_of(run, device):
    import torch

    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def disagreement(found: dict, arrays) -> float:
    """Norm of the difference from JAX's numbers over their norm, all leaves together."""
    squares = [((value.detach().cpu().numpy() - arrays[f"expected.{n}"]) ** 2).sum() for n, value in found.items()]
    return float((sum(squares) / sum((arrays[f"expected.{n}"] ** 2).sum() for n in found)) ** 0.5)


def main(module: str, path: str) -> None:
    import numpy as np
    import torch

    warnings.filterwarnings("ignore")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    arrays = dict(np.load(path))
    cases, answer, steps = importlib.import_module(module).cases(arrays, device)
    first, failed = {}, {}
    for name, run in cases.items():
        try:
            first[name] = seconds_of(run, device)
        except Exception as error:  # a way that this version of PyTorch cannot go is a row that says so
            failed[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
    about = {"version": torch.__version__, "device": device, "threads": torch.get_num_threads()}
    about["precision"] = importlib.import_module(module).ON_GPU if device == "cuda" else "float32"
    say(about | {"first": first, "failed": failed, "steps": steps, "disagreement": disagreement(answer(), arrays)})
    for line in sys.stdin:
        say(seconds_of(cases[line.strip()], device))


def say(message) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
