"""The pictures of the manual: each module draws some, with the library itself, from seeds that are written down.

A module has functions named after their pictures; each returns a matplotlib figure. `draw_all` writes them as SVG.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path


def pictures() -> Iterator[tuple[str, Callable]]:
    """(name of the file without suffix, function that draws it), in alphabetical order."""
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for name, thing in sorted(vars(module).items()):
            if inspect.isfunction(thing) and thing.__module__ == module.__name__ and not name.startswith("_"):
                yield f"{info.name}_{name}", thing


def draw_all(folder: Path) -> None:
    """Write every picture that is missing or older than the package's sources into `folder`."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    sources = Path(__file__).resolve().parents[2]
    newest = {
        package: max(path.stat().st_mtime for path in (sources / package).rglob("*.py"))
        for package in ("lowrank", "seqsolve", "density", "docs/pictures")
    }
    for name, draw in pictures():
        target = folder / f"{name}.svg"
        package = name.partition("_")[0]
        if target.exists() and target.stat().st_mtime > max(newest[package], newest["docs/pictures"]):
            continue
        figure = draw()
        figure.savefig(target, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
