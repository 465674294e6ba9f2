"""Point masses beside a density: what repeats exactly although its neighbours do not."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Atoms:
    """Values, ascending, each with its probability; together less than 1, and the rest is the density's.

    Examples
    --------
    >>> from density.atoms import Atoms
    >>> a = Atoms((0.0, 5.0), (0.5, 0.125))
    >>> a.mass, a.below([-1.0, 0.0, 9.0]).tolist()
    (0.625, [0.0, 0.5, 0.625])
    """

    values: tuple[float, ...] = ()
    masses: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def mass(self) -> float:
        """Probability of all of them."""
        return float(sum(self.masses))

    def below(self, x, *, strictly: bool = False):
        """Mass at values <= x, or < x."""
        total = np.concatenate([[0.0], np.cumsum(self.masses)])
        return total[np.searchsorted(self.values, x, side="left" if strictly else "right")]

    def above(self, x):
        """Mass at values > x, not through 1 - below."""
        total = np.concatenate([np.cumsum(self.masses[::-1])[::-1], [0.0]])
        return total[np.searchsorted(self.values, x, side="right")]

    def expect(self, g) -> float:
        """Sum of mass times g(value)."""
        return float(np.asarray(self.masses) @ g(np.asarray(self.values))) if self.values else 0.0


NO_ATOMS = Atoms()
