"""The main job of all three packages on real data, measured as it runs: ``python examples/tour``."""

import argparse
import platform
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT)]  # runs from a clone, installed or not

import page  # noqa: E402


def need_extras() -> None:
    """Stop with one sentence if something that only the tour needs is missing."""
    import importlib.util

    missing = [name for name in ("sklearn", "PIL", "matplotlib", "g2p_en") if not _found(importlib, name)]
    if missing:
        sys.exit(f"The tour needs {', '.join(missing)}: run `make tour`, or pip install '.[tour]' in the clone.")


def _found(importlib, name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def main(arguments: list[str] | None = None) -> int:
    """Play the three acts, print their table, write the page."""
    parser = argparse.ArgumentParser(prog="python examples/tour", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, a few seconds; the pictures are coarser")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "tour" / "index.html")
    options = parser.parse_args(arguments)
    need_extras()

    import patches
    import recurrence
    import residuals

    start = time.perf_counter()
    acts = []
    for module in (patches, recurrence, residuals):
        acts.append(module.act(quick=options.quick))
        print(page.terminal_table(acts[-1:]), end="\n\n", flush=True)
    total = time.perf_counter() - start
    footer = (
        f"Measured in {total:.0f} s on {platform.machine()} with Python {platform.python_version()}. The photographs "
        "ship with scikit-learn, the network's weights with g2p_en, the text with Python."
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page.render(acts, footer), encoding="utf-8")
    print(f"{total:.0f} s in all. Open {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
