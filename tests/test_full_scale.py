"""Every row at full size: one budget, one search, rates that were found and not typed."""

import pytest

from cmlcore.runs import fast_weights, full_scale, full_scale_search, slow_features
from cmlcore.runs.catalog import CATALOG
from cmlcore.runs.searches import searched
from cmlcore.runs.slow_features import Features

SOURCES = list(full_scale.BY_SOURCE)


@pytest.mark.parametrize("source", SOURCES)
def test_all_rows_of_a_source_have_one_budget(source):
    """To one outer step a chunk; the two that learn nothing have none."""
    rows = full_scale.rows(source)
    budget = slow_features.operations(rows[next(iter(rows))].settings)
    for name, row in rows.items():
        if isinstance(row.settings, Features):
            assert slow_features.operations(row.settings) == budget, name
        elif row.build in fast_weights.PASSES:
            one = fast_weights.operations(row.build, row.settings._replace(outer_steps=1))
            assert 0 <= budget - one * row.settings.outer_steps < row.settings.outer_steps // row.settings.chunk * one, name


@pytest.mark.parametrize("source", SOURCES)
def test_a_row_takes_its_own_rate_or_that_of_a_row_which_was_searched(source):
    rows, own = full_scale.rows(source), full_scale_search.all_rows()
    assert all((row.takes or name) in own for name, row in rows.items())


def test_a_listed_row_has_the_best_rate_of_four_trials_and_every_search_is_of_a_row():
    tried, own = searched("full-scale")["rows"], full_scale_search.all_rows()
    assert tried.keys() <= own.keys()
    for name, trials in tried.items():
        rates = {one["settings"]["outer_rate"] for one in trials}
        assert len(rates) == 4 and all(one["settings"]["outer_steps"] == own[name].settings.outer_steps for one in trials), name
    of_rows = {e.name: e for e in CATALOG if e.name in tried}
    assert of_rows.keys() == tried.keys()
    for name, experiment in of_rows.items():
        best = max(tried[name], key=lambda one: one["accuracy"])
        assert experiment.settings.outer_rate == best["settings"]["outer_rate"], name
