"""`python -m benchmarks [conv4] [features] [sine] [peers] [--receipt]`: the cost of a step beside its floor, and beside PyTorch's; and one problem, solved by peers."""

import argparse
import importlib
import os
import platform
from datetime import date
from importlib import metadata

import jax

from benchmarks import clock, peers, pytorch, table
from cmlcore.runs.experiment import device_in_words
from cmlcore.speed import devices

STEPS = ("conv4", "features", "sine")
NAMES = (*STEPS, "peers")


def steps(names):
    """What is timed: name, cases, floor, and whether PyTorch takes part; on a GPU conv4 also at the size of a full run."""
    for name in names:
        module = importlib.import_module(f"benchmarks.{name}")
        yield name, module.cases(), module.floor(), True
        if name == "conv4" and jax.default_backend() == "gpu":
            yield "conv4-20-way", module.cases(16, 20), module.floor(16, 20), False


def measure(name, cases, floor, with_pytorch, rounds, seconds, measured) -> dict:
    """Time all ways to take a step; the receipt of it, with its table."""
    cases = {way: case if isinstance(case, clock.Case) else clock.Case(case) for way, case in cases.items()}
    notes, first, worker, versions = [floor["sentence"]], {}, None, {}
    if with_pytorch and (python := pytorch.interpreter()):
        worker = pytorch.Worker(python, name, importlib.import_module(f"benchmarks.{name}").arrays())
        about = worker.about
        theirs = worker.cases()
        cases |= theirs
        first = {way: about["first"][way.removeprefix("PyTorch: ")] for way in theirs}
        versions["torch"] = about["version"]
        where = f"PyTorch {about['version']} on {about['device']}, {about['threads']} threads"
        notes.append(f"{where}; its numbers differ from JAX's by {about['disagreement']:.1e} (relative, in a short run).")
        if about["precision"] == "tf32":
            notes.append("PyTorch's convolutions are in tf32, which is its default on a GPU.")
        notes += [f"PyTorch: {way} failed here ({why})." for way, why in about["failed"].items()]
    elif with_pytorch:
        notes.append(pytorch.MISSING + ".")
    timings = clock.interleaved(cases, rounds, seconds, first)
    if worker:
        worker.close()
    made = table.rows(cases, timings, floor, measured)
    versions |= {"python": platform.python_version()} | {p: metadata.version(p) for p in ("jax", "jaxlib", "optax")}
    about = {"step": name, "machine": device_in_words(), "date": date.today().isoformat(), "versions": versions}
    return about | {"rates": {k: float(f"{v:.4g}") for k, v in measured.items()}, "floor": floor, "rows": made, "notes": notes}


def shown(receipt: dict) -> str:
    """A receipt as text."""
    r = receipt["rates"]
    rates = ", ".join(f"{name} {r[name] / 1e9:.0f} GFLOP/s" for name in r if name != "bandwidth")
    versions = ", ".join(f"{name} {version}" for name, version in receipt["versions"].items())
    heading = f"{receipt['step']} on {receipt['machine']}: {rates}, {r['bandwidth'] / 1e9:.1f} GB/s; {versions}"
    return table.text(heading, receipt["rows"], receipt["notes"])


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="step", help=f"which of {', '.join(NAMES)}; by default all")
    parser.add_argument("--receipt", action="store_true", help="keep the tables under benchmarks/receipts")
    parser.add_argument("--rounds", type=int, default=15, help="runs of each way (default 15)")
    parser.add_argument("--seconds", type=float, default=40, help="time for the runs of one table (default 40)")
    args = parser.parse_args()
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"there is no step {', '.join(sorted(unknown))}; choose from {', '.join(NAMES)}.")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU's memory is shared with PyTorch's process
    devices.split_cpu()
    names = args.names or NAMES
    if "peers" in names:  # first: its processes are to have the machine to themselves
        report(peers.measure(args.rounds, args.seconds), peers.shown, args.receipt)
    chosen = [name for name in names if name in STEPS]
    if not chosen:
        return
    measured = clock.rates(jax.default_backend() == "gpu")
    for step in steps(chosen):
        report(measure(*step, args.rounds, args.seconds, measured), shown, args.receipt)


def report(receipt: dict, text, kept: bool) -> None:
    """Print a receipt, and keep it if that was asked for."""
    print(text(receipt), end="\n\n", flush=True)
    if kept:
        table.keep(receipt, receipt["step"])


if __name__ == "__main__":
    main()
