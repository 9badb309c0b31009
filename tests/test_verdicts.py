"""The book's one standard for "better": what is called lower, higher or level, and that pages say what receipts say."""

import json
import re

import numpy as np
import pytest

from cmlcore.press.notebooks import ROOT
from cmlcore.runs import receipts, verdicts
from cmlcore.runs.verdicts import beside, compare, verdict


def test_a_small_gap_is_seen_in_pairs_where_the_rows_overlap():
    rng = np.random.default_rng(0)
    common = rng.standard_normal(5)
    ours, theirs = common, common + 0.1 + 0.01 * rng.standard_normal(5)
    assert compare(ours, theirs, paired=True).word == "lower"
    assert compare(theirs, ours, paired=True).word == "higher"
    assert compare(ours, theirs, paired=False).word == "level"


def test_the_paired_interval_is_student_s():
    found = compare([1.0, 2.0, 4.0], [0.0, 0.0, 0.0], paired=True)
    differences = np.array([1.0, 2.0, 4.0])
    assert found.gap == pytest.approx(7 / 3)
    assert found.half == pytest.approx(4.303 * differences.std(ddof=1) / 3**0.5)
    assert found.word == "level"  # 2.33 ± 3.79


def test_intervals_that_do_not_meet_are_a_verdict_without_pairs():
    assert compare([0.0, 0.1, 0.0], [5.0, 5.1, 5.2, 5.0], paired=False).word == "lower"


def test_one_seed_is_no_verdict():
    assert compare([0.0], [100.0], paired=True).word == "level"
    assert compare([0.0, 0.1], [100.0], paired=False).word == "level"


def test_of_rows_that_do_not_differ_about_one_in_twenty_is_called_different():
    rng = np.random.default_rng(1)
    words = [compare(*rng.standard_normal((2, 5)), paired=True).word for _ in range(4000)]
    assert 0.035 < np.mean([word != "level" for word in words]) < 0.075


@pytest.mark.parametrize(
    "ours, theirs, paired, said",
    [
        ([1.0, 2.0], [1.0], True, "same seeds"),
        ([], [1.0], False, "one mean a seed"),
        ([[1.0]], [1.0], False, "one mean a seed"),
        ([1.0, np.nan], [1.0, 2.0], True, "diverged"),
    ],
)
def test_bad_rows_are_named(ours, theirs, paired, said):
    with pytest.raises(ValueError, match=said):
        compare(ours, theirs, paired)


def test_a_verdict_from_receipts_is_that_of_their_seeds():
    rows = [receipts.read(name)["result"]["each_seed"] for name in ("sine-cml-full", "sine-maml")]
    assert verdict("sine-cml-full", "sine-maml") == compare(*rows, paired=True)


def test_receipts_of_different_scores_are_refused():
    with pytest.raises(ValueError, match="name a score of both"):
        verdict("sine-maml", "digits-eqprop")


def test_a_row_that_waits_says_so_in_the_table(monkeypatch):
    def read(name):
        if name == "modulation-sine-helped":
            raise receipts.WaitingReceipt(name)
        return {"seeds": [0, 1], "result": {"score": "error", "tasks": 3, "each_seed": [1.0, 1.1 if name == "a" else 3.0]}}

    monkeypatch.setattr(verdicts.receipts, "read", read)
    table = beside({"waits": "modulation-sine-helped", "b": "b"}, "a", "a")
    assert table.rows[0] == ("waits", "waiting", "")
    assert table.rows[1][2] == "level"


# What a page says about two rows: in words that no cell computes, or in a sentence that a cell made when it was last executed.
SAID = [
    ("sine-waves", "the contrastive rule and MAML are **level**", "sine-cml-full", "sine-maml", "level"),
    ("sine-waves", "for the full batch and for mini-batches", "sine-cml-minibatch-momentum", "sine-maml", "level"),
    ("top-down-modulation", "it is **level** with backpropagation", "modulation-sine", "modulation-sine-maml", "level"),
    ("top-down-modulation", "and with its first-order form", "modulation-sine", "modulation-sine-first-order", "level"),
    ("top-down-modulation", "both the rule and MAML end higher", "sine-cml-full", "modulation-sine", "higher"),
    ("top-down-modulation", "both the rule and MAML end higher", "sine-maml", "modulation-sine", "higher"),
    ("equilibrium-propagation", "nudging to either side and one nudge are level", "digits-eqprop", "digits-one-sided", "level"),
    ("equilibrium-propagation", "both are above the Hebbian rule", "digits-one-sided", "digits-hebbian", "higher"),
    ("sine-waves", "waves the two methods are level", "sine-cml-full", "sine-maml", "level"),
    ("complex-plane", "No. Its error is higher", "sine-imaginary", "sine-cml-full", "higher"),
    ("characters", "by the standard below the one is level beside the other", "omniglot-small-one-sided", "omniglot-small-scratch", "level"),
    ("characters", "the first is level beside training from scratch", "omniglot-small-matched", "omniglot-small-scratch", "level"),
]


@pytest.mark.parametrize("page, words, ours, theirs, word", SAID)
def test_a_verdict_in_prose_is_the_receipts(page, words, ours, theirs, word):
    cells = json.loads((ROOT / "book" / f"{page}.ipynb").read_text())["cells"]
    written = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    made = ["".join(out.get("data", {}).get("text/markdown", "")) for c in cells for out in c.get("outputs", [])]
    text = re.sub(r"\s+", " ", " ".join(written + made))
    assert words in text
    assert verdict(ours, theirs).word == word
