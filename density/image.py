"""The image of the data on the circle: a map, and weights on equispaced nodes or intervals between them."""

import numpy as np

from .cells import Cells
from .censored import CensoredCircle
from .likelihood import Circle
from .maps import Map
from .mixture_map import MixtureMap
from .own_map import OwnMap

_POINT = 1 / 32  # half waves of the highest order that an interval may be wide and still count as a point
_FELT = 1.0  # samples in a sketch's cell, times half waves squared, from which its width changes the likelihood

AnyMap = Map | OwnMap | MixtureMap


def nodes_for(order: int) -> int:
    """Twice the 16 K that linear binning needs, a power of two."""
    return 1 << int(np.ceil(np.log2(max(512, 32 * order))))


class Image:
    """Where a map takes the data; from there to circles for any order, without asking the map again."""

    def __init__(self, data: Cells, m: AnyMap, basis: str):
        self.masses, self.basis = data.masses, basis
        self.spans, self.counts = data.spans is not None, data.masses * data.n
        self.rounded = data.widths is not None or self.spans
        if data.widths is not None:
            self.low, self.high = (m.forward(x) for x in data.bounds)
        else:
            self.low = self.high = m.forward(data.centres)
        if data.spans is not None:
            ends = np.flatnonzero(data.spans[0] < data.spans[1])
            self.low, self.high = (_replaced(self.low, ends, m.forward(x[ends])) for x in data.spans)

    def circle(self, order: int, *, masses=None, nodes: int | None = None) -> Circle:
        """Nodes for `order`, or as many as are asked for; intervals stay intervals where that matters."""
        masses = self.masses if masses is None else masses
        count, periodic = nodes or nodes_for(order), self.basis == "periodic"
        if not self.rounded:
            return Circle(_nodes_of(self.low, masses, count, periodic), self.basis)
        low, high = self.low, self.high
        waves = (high - low) * max(order, 1)
        wide = waves > _POINT
        if self.spans:
            wide &= self.counts * waves**2 > _FELT
        if not wide.any():
            return Circle(_nodes_of((low + high) / 2, masses, count, periodic), self.basis)
        points = _nodes_of((low + high)[~wide] / 2, masses[~wide], count, periodic)
        low, high, masses = low[wide], high[wide], masses[wide]
        pieces = int(np.clip(np.ceil(2 * count * np.max(high - low)), 1, 64))
        inside = (np.arange(pieces) + 0.5) / pieces
        spread = low[:, None] + (high - low)[:, None] * inside
        every = points + _nodes_of(spread.reshape(-1), np.repeat(masses / pieces, pieces), count, periodic)
        return CensoredCircle(every, self.basis, points, low, high, masses)


def _replaced(values, where, by):
    values = values.copy()
    values[where] = by
    return values


def circle_of(data: Cells, m: AnyMap, order: int, basis: str, masses=None) -> Circle:
    """The image of the data on the circle, with nodes for `order`."""
    return Image(data, m, basis).circle(order, masses=masses)


def _nodes_of(u, masses, count: int, periodic: bool):
    """Linear binning to equispaced nodes of [0, 1]."""
    u = u * count
    left = np.minimum(u.astype(np.int64), count - 1)
    part = u - left
    out = np.bincount(left, masses * (1 - part), count + 1) + np.bincount(left + 1, masses * part, count + 1)
    if periodic:
        out[0] += out[-1]
        return out[:-1]
    return out
