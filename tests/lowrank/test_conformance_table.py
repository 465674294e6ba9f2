"""The conformance table is green: what is not read says so, and what is read is as good as the array in memory."""

from benchmarks.conformance_table import markdown, table

EVERYTHING = ("numpy", "nested lists")


def test_every_cell_is_good_or_says_why_not():
    columns, rows, sentences = table()
    assert len(rows) >= 14
    assert {"column_id", "row_id", "two_sided_id", "cur", "nystrom", "cr", "pinv", "certify"} <= set(columns)
    for kind, cells in rows.items():
        assert len(cells) == len(columns)
        for name, cell in zip(columns, cells, strict=True):
            assert cell == "yes" or cell in sentences or "is not installed" in cell, (kind, name, cell)
            if kind.startswith(EVERYTHING) or (name not in ("cr", "pinv") and kind.startswith(("scipy", "Kernel"))):
                assert cell == "yes", (kind, name, sentences.get(cell, cell))
    assert any("cr reads" in sentence for sentence in sentences.values())
    assert any("pinv reads" in sentence for sentence in sentences.values())


def test_the_table_of_the_manual():
    lines = markdown().splitlines()
    assert lines[0].startswith("| | column_id | row_id |")
    assert lines[2].startswith("| numpy, C order | yes |")
