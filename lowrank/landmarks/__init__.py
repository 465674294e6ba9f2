"""Rules for the landmarks of a Nystrom approximation, one a file."""

from .base import Landmarks, Search
from .given import GIVEN
from .greedy import GREEDY
from .kmeans import KMEANS
from .leverage import LEVERAGE
from .rpcholesky import RPCHOLESKY
from .uniform import UNIFORM

__all__ = ["LANDMARKS", "Landmarks", "Search"]

LANDMARKS: dict[str, Landmarks] = {rule.name: rule for rule in (RPCHOLESKY, UNIFORM, KMEANS, LEVERAGE, GREEDY, GIVEN)}
