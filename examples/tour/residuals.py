"""Act 3: what a predictor cannot foresee of a photograph, as a density and as bytes."""

import io
import lzma
import time
import zlib

import numpy as np

import density as ds
import page

COLOUR = page.COLOURS["density"]


def entropy_bytes(values: np.ndarray) -> float:
    """Bytes of the best code that knows the counts of the values, and nothing else, for free."""
    _, counts = np.unique(values, return_counts=True)
    return float(np.sum(counts * np.log2(values.size / counts)) / 8)


def png_bytes(photo: np.ndarray) -> int:
    """The photo as an optimised PNG, which has predictors of its own."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, format="PNG", optimize=True)
    return len(buffer.getvalue())


def clocked(job):
    """(result, seconds) of a call."""
    start = time.perf_counter()
    result = job()
    return result, time.perf_counter() - start


def act(quick: bool = False) -> page.Act:
    """Fit the residuals with a certified optimum, code them, decode them, rebuild the photo."""
    name = "flower.jpg"
    photo, residuals = ds.gallery.photo(name), ds.gallery.photo_residuals(name)
    x = residuals.ravel()
    result = page.Act(
        "density",
        "What cannot be predicted of a flower",
        "Each pixel is predicted from its left, upper and upper left neighbours. What the prediction misses is a pile "
        f"of {x.size:,} small integers: a density, and by it, bytes.",
    )
    ds.fit(x[:5000], order=24)  # compile the kernels outside the clock
    options = {"order": 48, "map": "logistic"} if quick else {}
    p, seconds = clocked(lambda: ds.fit(x, **options))
    result.row(
        f"Fourier density, order {p.order}",
        f"{1e3 * seconds:.0f} ms",
        f"{p.map.kind} map; rounding step found in the data: {p.report.grid:g}"
        if p.report.grid
        else f"{p.map.kind} map",
    )
    result.row(
        "how far from the optimum",
        f"{p.gap_nats:.1e} nats",
        "per sample at most, for any model of this order on this map",
    )

    ds.compress(residuals[:8])
    blob, coding = clocked(lambda: ds.compress(residuals))
    back, decoding = clocked(lambda: ds.decompress(blob))
    same = bool(np.array_equal(back, residuals) and np.array_equal(ds.gallery.photo_from_residuals(back), photo))
    bound = entropy_bytes(x)
    result.row(
        "compressed", f"{len(blob):,} bytes", f"{8 * len(blob) / x.size:.3f} bits a value in {1e3 * coding:.0f} ms"
    )
    result.row(
        "decoded",
        "the same photo, byte for byte" if same else "NOT EQUAL",
        f"in {1e3 * decoding:.0f} ms; every chunk has a checksum",
    )
    by_model = ds.compress(residuals, model=p)
    exact = np.array_equal(ds.decompress(by_model), residuals)
    result.row(
        "compressed by the fitted density",
        f"{len(by_model):,} bytes",
        f"probabilities from the density instead of the counts; decoded {'exactly' if exact else 'WRONGLY'}",
    )
    sizes = {
        "empirical entropy": bound,
        "density": len(blob),
        "lzma -9": len(lzma.compress(x.astype(np.int16).tobytes(), preset=9)),
        "zlib -9": len(zlib.compress(x.astype(np.int16).tobytes(), 9)),
        "PNG of the photo": png_bytes(photo),
    }
    for label, size in sizes.items():
        if label not in ("density", "empirical entropy"):
            result.row(label, f"{int(size):,} bytes", f"{size / len(blob):.3f} times as many")
    result.row(
        "empirical entropy",
        f"{bound:,.0f} bytes",
        f"without any table; the container is {100 * (len(blob) / bound - 1):.2f} % above it",
    )
    result.figures += [
        page.Figure(page.photo_uri(photo), "The photograph."),
        page.Figure(
            page.photo_uri(amplified(residuals)),
            "What the predictor misses, four times amplified around grey: edges and noise.",
        ),
        page.Figure(
            density_plot(x, p),
            "The residuals' histogram and the fitted density, on a logarithmic scale: the tails count when bits do.",
        ),
        page.Figure(sizes_plot(sizes, x.size), "Bits a value: ours stands where the entropy stands."),
    ]
    return result


def amplified(residuals: np.ndarray) -> np.ndarray:
    """The residuals as a picture."""
    return np.clip(128 + 4 * residuals.astype(int), 0, 255).astype(np.uint8)


def density_plot(x: np.ndarray, p) -> str:
    """Counts as dots, the density as a line."""
    figure, ax = page.axes()
    values, counts = np.unique(x, return_counts=True)
    t = np.linspace(values.min() - 5, values.max() + 5, 2000)
    ax.semilogy(values, counts / x.size, ".", color=page.SOFT, ms=3.5, label="share of each value")
    ax.semilogy(t, p.pdf(t), color=COLOUR, lw=1.5, label=f"density of order {p.order}")
    ax.set(xlabel="residual", ylabel="density", ylim=(0.3 / x.size, None))
    ax.legend(frameon=False, fontsize=10)
    return page.plot_uri(figure)


def sizes_plot(sizes: dict[str, float], n: int) -> str:
    """A bar for each coder."""
    figure, ax = page.axes()
    bits = [8 * s / n for s in sizes.values()]
    colours = [page.INK, COLOUR, *[page.SOFT] * (len(bits) - 2)]
    bars = ax.barh(list(sizes), bits, color=colours, height=0.62)
    ax.bar_label(bars, fmt="%.3f", padding=4, fontsize=10, color=page.INK)
    ax.invert_yaxis()
    ax.set(xlabel="bits a value", xlim=(0, 1.15 * max(bits)))
    ax.grid(axis="y", alpha=0)
    return page.plot_uri(figure)
