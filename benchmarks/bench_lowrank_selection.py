"""Every selection on four families: time over the floor, and the error over the optimum, as found and as possible.

F is the Frobenius error of the column ID over the optimal error of that rank; projF the same with the best
coefficients that its columns allow. ``python -m benchmarks lowrank_selection`` prints both in one race a family.
"""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

import lowrank as lr
from benchmarks.ratios import Race, race
from lowrank import gallery

SEED = 20261
FLOOR = "floor: one Gaussian GEMM"
FAMILIES = ("polynomial", "exponential", "kahan", "mixture")
SIZES = {True: (1500, 500, 50), False: (20000, 2000, 200)}
RULES = tuple(sorted(name for name in lr.SELECTIONS if name != "given"))


@cache
def _problem(family: str, quick: bool) -> tuple[np.ndarray, int, float]:
    """A, the rank, and the optimal error."""
    m, n, k = SIZES[quick]
    if family in gallery.SPECTRA:
        s = gallery.SPECTRA[family](n)
        return gallery.with_spectrum(m, n, s, basis="cheap", rng=SEED), k, gallery.optimal_error(s, k)
    if family == "kahan":
        A, k = gallery.kahan(n), 40
    else:
        A = gallery.gaussian_mixture_rows(m, n, count=2 * k, spread=0.1, rng=SEED)
    s = np.sqrt(np.maximum(np.linalg.eigvalsh(A.T @ A), 0.0)) if family == "mixture" else np.linalg.svd(A)[1]
    return A, k, float(np.linalg.norm(np.sort(s)[::-1][k:]))


def errors(family: str, rule: str, quick: bool) -> tuple[float, float]:
    """(F, projF) of one rule."""
    A, k, best = _problem(family, quick)
    f = lr.column_id(A, rank=k, selection=rule, rng=SEED)
    Q = np.linalg.qr(f.C)[0]
    return float(np.linalg.norm(A - f.to_dense())) / best, float(np.linalg.norm(A - Q @ (Q.T @ A))) / best


def selection_race(family: str, quick: bool, rules=RULES) -> Race:
    """All `rules` on one thread beside the floor; the error is F."""
    A, k, best = _problem(family, quick)
    G = np.random.default_rng(SEED).standard_normal((k + 10, len(A)))
    contenders: dict[str, Callable] = {
        rule: lambda rule=rule: lr.column_id(A, rank=k, selection=rule, rng=SEED) for rule in rules
    }
    contenders[FLOOR] = lambda: G @ A
    error: dict[str, Callable] = dict.fromkeys(rules, lambda f: float(np.linalg.norm(A - f.to_dense())) / best)
    return race(f"selections, {family}, {A.shape[0]} x {A.shape[1]}, k = {k}", contenders, error=error)


def table(quick: bool) -> Iterator[str]:
    """The rows of a Markdown table: time over floor, F and projF of each rule on each family."""
    yield "| rule | " + " | ".join(f"{family}: time, F, projF" for family in FAMILIES) + " |"
    yield "|---" * (len(FAMILIES) + 1) + "|"
    found = {family: selection_race(family, quick) for family in FAMILIES}
    for rule in RULES:
        cells = []
        for family in FAMILIES:
            F, best = errors(family, rule, quick)
            cells.append(f"{found[family].ratio(rule, FLOOR, clock='cpu').median:.2f}, {F:.3g}, {best:.3g}")
        yield f"| {rule} | " + " | ".join(cells) + " |"


def races(quick: bool) -> Iterator[Race]:
    """Every rule at full size; three of them in the quick slice."""
    for family in FAMILIES:
        if not quick:
            yield selection_race(family, quick)
    if quick:
        yield selection_race("exponential", quick, ("auto", "lu", "osinsky"))


class Selections:
    """Time over the floor, and both errors over the optimum, of every rule on every family."""

    params = (RULES, FAMILIES)
    param_names = ("rule", "family")
    timeout = 900

    def setup(self, rule, family):
        self.race = selection_race(family, True, (rule,))
        self.errors = errors(family, rule, True)

    def track_ratio_to_floor(self, rule, family):
        return self.race.ratio(rule, FLOOR).median

    def track_error_over_optimum(self, rule, family):
        return self.errors[0]

    def track_projected_error_over_optimum(self, rule, family):
        return self.errors[1]


if __name__ == "__main__":
    import sys

    for line in table(quick="--quick" in sys.argv):
        print(line, flush=True)
