"""``python -m benchmarks [--quick] [names]``: run the races, print them, write build/bench/index.html."""

import argparse
import importlib
import pkgutil
import sys
import time
from pathlib import Path

import benchmarks
from benchmarks import report

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen modules' races; exit code 2 for misuse."""
    modules = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name.startswith("bench_"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="run only modules whose name contains one of these words")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: everything in some minutes")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench" / "index.html")
    options = parser.parse_args(arguments)
    chosen = [m for m in modules if not options.names or any(word in m for word in options.names)]
    if not chosen:
        parser.error(f"no module matches {options.names}; there are {', '.join(modules)}")
    start, results = time.perf_counter(), []
    for name in chosen:
        for race in importlib.import_module(f"benchmarks.{name}").races(quick=options.quick):
            results.append(race)
            print("\n".join(report.lines(race)), flush=True)
    asv = ROOT / ".asv" / "results"
    path = report.write(results, options.output, asv if asv.is_dir() and not options.quick else None)
    print(f"{len(results)} races in {time.perf_counter() - start:.0f} s; {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
