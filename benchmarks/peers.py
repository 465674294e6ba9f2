"""The libraries that we are measured against, loaded only if they are installed."""

import importlib
import importlib.metadata
from types import ModuleType

# import name -> distribution
DISTRIBUTIONS = {
    "scipy": "scipy",
    "scipy.linalg.interpolative": "scipy",
    "scipy.stats": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "jax": "jax",
    "KDEpy": "KDEpy",
    "fastkde": "fastkde",
    "statsmodels": "statsmodels",
    "constriction": "constriction",
    "librla": "librla",
    "zstandard": "zstandard",
    "PIL": "pillow",
    "pararnn": "pararnn-torch",
}


def load(name: str) -> ModuleType | None:
    """The module called `name`, or None where it is not installed or does not start."""
    try:
        return importlib.import_module(name)
    except Exception:  # a peer that is broken on this machine must not take our figures with it
        return None


def why_absent(name: str) -> str:
    """The reason why `load(name)` gave None, as the report shows it; empty if the peer is there."""
    try:
        importlib.import_module(name)
    except ImportError:
        return f"{name} is not installed (pip install 'triskele[bench]')"
    except Exception as error:
        return f"{name} does not start here: {type(error).__name__}"
    return ""


def versions() -> dict[str, str]:
    """Version of each peer, "n/a" where it is absent."""
    found = {}
    for distribution in sorted(set(DISTRIBUTIONS.values()) | {"numpy", "numba", "triskele"}):
        try:
            found[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            found[distribution] = "n/a"
    return found
