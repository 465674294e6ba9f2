"""The printed table of the forms: every recurrence is in it, and every form agrees with its definition."""

from benchmarks import agreement_table
from seqsolve import linear_attention


def test_every_form_of_every_recurrence_agrees_to_rounding():
    rows = agreement_table.table()
    assert set(rows) == set(linear_attention.TABLE)
    for kind, row in rows.items():
        for (form, dtype, direction), gap in row.items():
            assert 0 <= gap < (5e-5 if dtype == "float32" else 1e-12), (kind, form, dtype, direction, gap)


def test_states_merge_to_the_whole():
    assert all(gap < 1e-6 for gap in agreement_table.merged().values())
    assert agreement_table.markdown().count("\n| ") == len(linear_attention.TABLE) + 4
