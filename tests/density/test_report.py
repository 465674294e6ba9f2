"""What a report keeps and how it reads."""

import numpy as np
import pytest

import density as ds
from density.report import Candidate, OrderStep


@pytest.mark.parametrize("kwargs", [{}, {"order": "cv"}, {"order": "bic", "map": "normal"}, {"support": (0, np.inf)}])
def test_reports_print_numbers_as_python_does(rng, kwargs):
    x = np.abs(rng.standard_normal(300))
    p = ds.fit(x, **kwargs)
    for text in (
        repr(p.report),
        repr(p.map),
        repr(p.tail),
        repr(p),
        p.explain(),
        repr(ds.from_bytes(p.to_bytes()).report),
    ):
        assert "np." not in text
    assert len(repr(p.report)) < 4000  # a screen of 100 by 40
    for step in (*p.report.candidates, *p.report.order_path):
        assert {type(v) for v in vars(step).values()} <= {str, int, float}


def test_numbers_are_kept_whole_and_printed_short():
    assert Candidate("normal", np.float64(1 / 3), 2, np.float64(-1.5)).scale == 1 / 3
    assert (
        repr(OrderStep(3, np.float64(1 / 3), -1e-9, 0.0))
        == "OrderStep(order=3, log_likelihood=0.3333333, aic=-1e-09, score=0)"
    )


def test_the_report_says_what_was_tried(rng):
    p = ds.fit(rng.standard_normal(400))
    assert isinstance(p.report, ds.FitReport)
    assert p.report.status is ds.Status.CERTIFIED
    assert len(p.report.candidates) >= 8
    assert p.order in {step.order for step in p.report.order_path}
    assert p.gap_nats == p.report.gap_nats
