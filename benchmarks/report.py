"""One static page out of the races and of asv's result files; it opens offline, from a file."""

import html
import json
import math
import platform
from collections.abc import Iterable
from pathlib import Path

from benchmarks.peers import versions
from benchmarks.ratios import Quartiles, Race, all_threads

STYLE = """
:root { color-scheme: light dark; --ink: #1c1b22; --soft: #63616e; --paper: #fbfaf7; --line: #dedbd2;
        --ours: #0f766e; --peer: #c2410c; --band: #efece4; }
@media (prefers-color-scheme: dark) { :root { --ink: #eceaf2; --soft: #a5a2b2; --paper: #17161b; --line: #34323c;
        --ours: #2dd4bf; --peer: #fb923c; --band: #221f29; } }
* { box-sizing: border-box } body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem;
  background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
h1 { line-height: 1.15; margin: .2rem 0 }
h2 { margin: 2.2rem 0 .3rem; font-size: 1.15rem } p, .soft { color: var(--soft) } .scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left } th { color: var(--soft); font-weight: 600 }
tr.ours td { color: var(--ours); font-weight: 600 } .bar { display: block; min-width: 9rem }
"""


def bar(ratio: float) -> str:
    """The ratio on a logarithmic line whose middle is "equal"; to the right the peer is slower."""
    reach = max(-3.0, min(3.0, math.log10(max(ratio, 1e-9))))
    width, middle = 150, 75
    end = middle + reach / 3 * 70
    colour = "var(--ours)" if reach >= 0 else "var(--peer)"
    return (
        f'<svg class="bar" viewBox="0 0 {width} 16" height="16" role="img" aria-label="{ratio:.3g} times">'
        f'<line x1="{middle}" x2="{middle}" y1="0" y2="16" stroke="var(--line)"/>'
        f'<rect x="{min(middle, end):.1f}" y="3" width="{abs(end - middle):.1f}" height="10" fill="{colour}"/></svg>'
    )


def seconds(value: float) -> str:
    """A duration with the unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def table(race: Race) -> str:
    """One race: a row a contender, error beside time, ratios of the peer's time to ours."""
    ours = next(iter(race.wall))
    rows = []
    for key in race.wall:
        error = race.error.get(key)
        shown = "" if error is None else f"{error:.3g}"
        wall = race.ratio(key, ours)
        cpu = race.ratio(key, ours, clock="cpu")
        rows.append(
            f'<tr class="{"ours" if key == ours else ""}"><td>{html.escape(key)}</td>'
            f"<td>{seconds(Quartiles.of(race.wall[key]).median)}</td><td>{html.escape(format(wall, '.3g'))}</td>"
            f"<td>{cpu.median:.3g}</td><td>{shown}</td><td>{bar(wall.median) if key != ours else ''}</td></tr>"
        )
    for key, reason in race.absent.items():
        rows.append(f'<tr><td>{html.escape(key)}</td><td colspan="5">n/a: {html.escape(reason)}</td></tr>')
    threads = "1 thread" if race.threads == 1 else f"{race.threads} threads"
    return (
        f'<h2>{html.escape(race.name)}</h2><div class="soft">{threads}, {len(race.wall[ours])} interleaved rounds</div>'
        '<div class="scroll"><table><tr><th>library</th><th>median</th><th>time / ours [quartiles]</th>'
        "<th>CPU / ours</th><th>error</th><th>slower than ours &rarr;</th></tr>" + "".join(rows) + "</table></div>"
    )


def asv_rows(folder: Path) -> list[tuple[str, str, object]]:
    """(benchmark, parameters, value) of the newest asv result file below `folder`."""
    files = [p for p in folder.glob("*/*.json") if p.name != "machine.json"]
    if not files:
        return []
    content = json.loads(max(files, key=lambda p: p.stat().st_mtime).read_text())
    rows = []
    for name, row in sorted(content.get("results", {}).items()):
        entry = dict(zip(content["result_columns"], row, strict=False)) if isinstance(row, list) else {"result": row}
        values = entry.get("result")
        combos = [""]
        for axis in entry.get("params") or []:
            combos = [f"{left}, {right}" if left else str(right) for left in combos for right in axis]
        for combo, value in zip(combos, values if isinstance(values, list) else [values], strict=False):
            rows.append((name, combo, value))
    return rows


def page(races: Iterable[Race], asv_folder: Path | None = None) -> str:
    """The whole page as text."""
    races = list(races)
    known = ", ".join(f"{name} {version}" for name, version in versions().items())
    body = [
        "<h1>Triskele beside its peers</h1>",
        "<p>Every contender runs once a round, in turn, in one process on the same data. A ratio is formed inside a "
        "round and its median over the rounds is shown with quartiles; speed counts only at equal error.</p>",
        f'<p class="soft">{html.escape(platform.machine())}, {all_threads()} cores, Python '
        f"{platform.python_version()}; {html.escape(known)}</p>",
        *(table(race) for race in races),
    ]
    rows = asv_rows(asv_folder) if asv_folder else []
    if rows:
        body.append(
            '<h2>asv</h2><div class="scroll"><table><tr><th>benchmark</th><th>parameters</th><th>value</th></tr>'
        )
        for name, combo, value in rows:
            shown = "n/a" if value is None or (isinstance(value, float) and math.isnan(value)) else f"{value:.4g}"
            body.append(f"<tr><td>{html.escape(name)}</td><td>{html.escape(combo)}</td><td>{shown}</td></tr>")
        body.append("</table></div>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Triskele beside its peers</title><style>{STYLE}</style><body>{''.join(body)}</body></html>"
    )


def write(races: Iterable[Race], path: Path, asv_folder: Path | None = None) -> Path:
    """Write the page to `path`, and the raw figures as JSON beside it."""
    races = list(races)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(races, asv_folder), encoding="utf-8")
    raw = [
        {"name": r.name, "threads": r.threads, "wall": r.wall, "cpu": r.cpu, "error": r.error, "absent": r.absent}
        for r in races
    ]
    path.with_name("races.json").write_text(json.dumps(raw, indent=1))
    return path


def lines(race: Race) -> Iterable[str]:
    """The same table for a terminal."""
    ours = next(iter(race.wall))
    yield f"{race.name}  ({race.threads} thread{'s' * (race.threads != 1)})"
    for key in race.wall:
        error = race.error.get(key)
        shown = "" if error is None else f"   error {error:.3g}"
        ratio = "" if key == ours else f"   {race.ratio(key, ours):.3g} x ours"
        yield f"  {key:<34}{seconds(Quartiles.of(race.wall[key]).median):>10}{ratio}{shown}"
    for key, reason in race.absent.items():
        yield f"  {key:<34}       n/a   {reason}"
