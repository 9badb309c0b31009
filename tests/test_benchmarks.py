"""The code behind `make bench`: what is measured is tested by hand-made cases, not by the clock."""

import itertools
import json
import re
import sys

import numpy as np
import pytest

from benchmarks import __main__ as bench
from benchmarks import clock, conv4, page, peers, peers_worker, pytorch, pytorch_worker, sine, table
from benchmarks.clock import Case

MACHINE = {"float32": 1e9, "bfloat16": 4e9, "bandwidth": 1e8}
FLOOR = {"operations": 2e6, "bytes": 1e5, "sentence": "a step"}


def times(*seconds):
    """A case that takes these times, one after the other, and then the last for ever."""
    left = itertools.chain(seconds, itertools.repeat(seconds[-1]))
    return lambda: next(left)


def test_the_first_call_stands_apart_and_the_runs_alternate():
    order = []
    case = lambda name, run: Case(lambda: (order.append(name), run())[1], steps=2)
    found = clock.interleaved({"a": case("a", times(9.0, 1.0, 3.0, 2.0)), "b": case("b", times(8.0, 0.5))}, rounds=3, seconds=1000.0)
    assert found["a"] == clock.Timing(median=1.0, fastest=0.5, slowest=1.5, runs=3, first=9.0)
    assert found["b"] == clock.Timing(0.25, 0.25, 0.25, 3, 8.0)
    assert order == list("ab" * 4)


def test_a_slow_case_runs_once_and_a_first_call_made_elsewhere_is_not_made_again():
    found = clock.interleaved({"slow": Case(times(50.0)), "quick": Case(times(0.1))}, rounds=4, seconds=100.0, first={"slow": 7.0})
    assert (found["slow"].runs, found["slow"].first, found["quick"].runs) == (1, 7.0, 4)


def test_the_floor_is_the_slower_of_arithmetic_and_memory():
    assert clock.floor_seconds(FLOOR, MACHINE, "float32") == (2e-3, "operations")
    assert clock.floor_seconds(FLOOR, MACHINE, "bfloat16") == (1e-3, "bytes")
    assert clock.floor_seconds(FLOOR, {"float32": 1e9, "bandwidth": 1e9}, "bfloat16") == (2e-3, "operations")  # its rate was not measured


def test_a_table_beside_its_floor_and_beside_pytorch():
    cases = {"ours": Case(times(1.0, 0.004)), "PyTorch: loop": Case(times(1.0, 0.01)), "PyTorch: fast": Case(times(1.0, 0.006), "bfloat16")}
    made = table.rows(cases, clock.interleaved(cases, 3), FLOOR, MACHINE)
    assert [(row["ms"], row["floor_ms"], row["times_floor"]) for row in made] == [(4, 2, 2), (10, 2, 5), (6, 1, 6)]
    lines = table.text("title", made, ["a note"]).splitlines()
    assert lines[0] == "title" and lines[-1] == "a note"
    assert [line.split()[-1] for line in lines if "." in line] == ["1.50", "0.60", "1.00"]


def test_without_pytorch_the_table_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(pytorch, "HERE", tmp_path / "benchmarks")
    monkeypatch.setattr(pytorch, "find_spec", lambda name: None)
    monkeypatch.delenv("BENCH_PYTHON", raising=False)
    receipt = bench.measure("conv4", {"ours": times(1.0, 0.004)}, FLOOR, True, 2, 10.0, MACHINE)
    assert receipt == json.loads(json.dumps(receipt)) and {"machine", "versions", "rates", "floor"} <= set(receipt)
    assert "PyTorch is not installed" in bench.shown(receipt) and bench.shown(receipt).count("ours") == 1


def test_disagreement_with_pytorch_is_relative_over_all_leaves():
    class Tensor(np.ndarray):
        detach = cpu = lambda self: self
        numpy = lambda self: np.asarray(self)

    found = {"a": np.array([3.0, 0.0]).view(Tensor), "b": np.array([4.5]).view(Tensor)}
    assert pytorch_worker.disagreement(found, {"expected.a": np.array([3.0, 0.0]), "expected.b": np.array([4.0])}) == pytest.approx(0.1)


def test_operations_of_the_inner_step_are_those_counted_by_hand():
    """Forward 4.516, 72.25, 18.06 and 3.318 million for the blocks; the first has no gradient of its input; the read-out is 3200."""
    a_task = 2 * 4_515_840 + 3 * (72_253_440 + 18_063_360 + 3_317_760 + 3_200)
    assert conv4.floor()["operations"] == 4 * a_task
    twice = 2 * (a_task - 3 * 3_200) + 4 * 3 * 3_200  # twice the images; the read-out is twice as wide as well
    assert conv4.floor(8, 10)["operations"] == 8 * twice


def test_the_page_s_meta_gradient_is_counted_by_hand():
    """Twenty free steps on 10 rows and twenty nudged ones on 20, at 10,080 operations a row; Adam and the pull, 16 a weight and step."""
    assert sine.operations(page.STEPS, page.STEPS) == 20 * 10 * 10_080 + 20 * 20 * 10_080 + 40 * 16 * 1_761


def test_a_table_of_the_page_can_be_read():
    row = {"chapter": "bilevel", "explorable": "stopped-early"}
    row |= {f"{key}_{kind}": 1.5 for key in ("answer", "program", "drawing") for kind in ("ms", "slowest_ms")}
    program = {"ms": 4.0, "fastest": 3.0, "slowest": 9.0, "rate": 3e9, "operations": 7e6, "floor_ms": 2.0, "times_floor": 2.0}
    receipt = {"machine": "a machine", "versions": {"chromium": "1"}, "program": program, "explorables": {"phone": [row]}}
    receipt["arrivals"] = [{"page": "bilevel", "text": 90_400, "more": 80_000, "painted_ms": 1200, "answers_ms": 1900}]
    text = page.text(receipt)
    assert "2.0 times the floor" in text and "stopped-early" in text and "7e+06 operations at 3 GFLOP/s" in text
    assert "bilevel                         90      80    1200    1900" in text


def test_a_page_s_weight_is_what_it_loads(tmp_path):
    (tmp_path / "_static").mkdir()
    for name, size in (("a.css", 1000), ("b.js", 2000), ("math.woff2", 500)):
        (tmp_path / "_static" / name).write_bytes(bytes(range(250)) * (size // 250))
    file = tmp_path / "p.html"
    file.write_text('<link rel="stylesheet" href="../_static/a.css?v=1" /><script defer src="../_static/b.js?v=2"></script><math></math>')
    assert page.weights(tmp_path, file) == {
        "text": page.zipped(file) + page.zipped(tmp_path / "_static" / "a.css") + 500,
        "more": page.zipped(tmp_path / "_static" / "b.js"),
    }


# ---- one problem, solved by peers ----------------------------------------------------------------------------------------


def test_the_exact_answer_of_the_peers_problem_is_that_of_finite_differences():
    arrays = {name: a.astype(np.float64) for name, a in peers.data().items()}
    found = peers.exact(**arrays)
    for k in (0, 7, 150):
        there, back = ({**arrays, "theta": arrays["theta"] + sign * 1e-5 * (np.arange(peers.WEIGHTS) == k)} for sign in (1, -1))
        assert found[k] == pytest.approx((peers.outer(**there) - peers.outer(**back)) / 2e-5, rel=1e-6)


def test_our_ways_find_it():
    found = peers.Peer(sys.executable, "cmlcore", peers.data() | {"exact": peers.exact(**peers.data())})
    ways = found.about["ways"]
    assert ways.keys() == peers_worker.WAYS["cmlcore"].keys() and found.seconds("matched") > 0
    found.close()
    assert ways["matched"]["error"] < 0.02 and ways["implicit, cg"]["error"] < 1e-4
    assert all(way["compile_s"] > 0 and way["memory_bytes"] > 0 for way in ways.values())


def commented(a):
    """A docstring."""
    # a comment

    b = max(
        a,
        1,
    )
    return lambda c: (b, c)


def test_lines_are_counted_as_statements():
    assert peers_worker.lines(commented) == 2
    assert all(5 <= peers_worker.lines(way) <= 15 for ways in peers_worker.WAYS.values() for way in ways.values())


def test_a_peer_that_is_not_installed_is_a_line_that_says_so(monkeypatch):
    monkeypatch.setattr(peers, "interpreter", lambda library: None)
    receipt = peers.measure(1, 1.0)
    assert receipt["rows"] == [] and receipt == json.loads(json.dumps(receipt))
    assert all(f"{library} did not install here." in peers.shown(receipt) for library in peers_worker.WAYS)


def test_the_table_of_the_readme_is_the_receipt_s():
    readme = (peers.HERE.parent / "README.md").read_text()
    kept = [json.loads(file.read_text()) for file in table.RECEIPTS.glob("*-peers.json")]
    assert any(peers.markdown(receipt) in readme and peers.best(receipt) in re.sub(r"\s+", " ", readme) for receipt in kept)


def test_who_is_best_at_what_is_said_of_all_that_are_level():
    row = {"ms": 10.0, "compile_s": None, "memory_bytes": 5, "lines": 6}
    receipt = {
        "rows": [
            {"way": "a", "error": 1e-3} | row,
            {"way": "b", "error": 1e-6} | row | {"ms": 10.5, "memory_bytes": None},
            {"way": "c", "error": 2e-6} | row | {"ms": 20.0},
        ]
    }
    assert peers.best(receipt) == "The least error: b; the shortest call: a and b; the least temporary memory: a and c; the fewest lines: a and b and c."
