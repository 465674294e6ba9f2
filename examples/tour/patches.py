"""Act 1: all 8 x 8 colour patches of a photograph, told by a few of its own patches and pixels."""

import time

import numpy as np

import lowrank as lr
import page

SIDE = 8  # pixels; a patch has SIDE * SIDE * 3 numbers


def photograph() -> np.ndarray:
    """The photo of a Chinese temple that scikit-learn ships, (427, 640, 3) bytes."""
    from sklearn.datasets import load_sample_image

    return np.ascontiguousarray(load_sample_image("china.jpg"))


def photo_from(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The photo again: each pixel is the mean over the patches that hold it."""
    height, width, _ = shape
    tall, wide = height - SIDE + 1, width - SIDE + 1
    blocks = rows.reshape(tall, wide, SIDE, SIDE, 3)
    total, count = np.zeros(shape), np.zeros((height, width, 1))
    for y in range(SIDE):
        for x in range(SIDE):
            total[y : y + tall, x : x + wide] += blocks[:, :, y, x]
            count[y : y + tall, x : x + wide] += 1
    return np.clip(np.rint(255 * total / count), 0, 255).astype(np.uint8)


def optimal_errors(A: np.ndarray) -> np.ndarray:
    """||A - A_k|| / ||A|| for k = 0, 1, ... through the small Gram matrix: no rank-k matrix is closer than that."""
    gram = A.T.astype(np.float64) @ A.astype(np.float64)
    energy = np.maximum(np.linalg.eigvalsh(gram)[::-1], 0.0)
    return np.sqrt(np.maximum(1 - np.cumsum(np.concatenate([[0.0], energy])) / energy.sum(), 0.0))


def timed(job):
    """(result, seconds) of a call."""
    start = time.perf_counter()
    result = job()
    return result, time.perf_counter() - start


def percent(x: float) -> str:
    """A relative error with three digits."""
    return f"{100 * x:.3g} %"


def act(quick: bool = False, seed: int = 7) -> page.Act:
    """Column ID, CUR and Nystrom on the patches, with the certificate beside the true error."""
    photo = photograph()
    A = lr.gallery.photo_patches("china.jpg", size=SIDE, dtype=np.float32)
    best = optimal_errors(A)
    k = 48
    result = page.Act(
        "lowrank",
        "A photograph told by its own patches",
        f"Every 8 x 8 colour patch of the photograph is a row of {A.shape[1]} numbers: a matrix of {A.shape[0]:,} x "
        f"{A.shape[1]}. The factorisations below name real pixels and real patches of it, and say how far off they are "
        "before anyone compares.",
    )

    lr.column_id(A[:4096], rank=k, rng=seed)  # compile the kernels outside the clock
    f, seconds = timed(lambda: lr.column_id(A, rank=k, rng=seed))
    low, high = f.certificate.interval
    result.row(
        f"column ID, {k} of {A.shape[1]} pixels",
        f"{1e3 * seconds:.0f} ms",
        "sketch, selection, coefficients and certificate",
    )
    result.row(
        "its certificate",
        percent(f.certificate.estimate),
        f"95 % interval {percent(low)} to {percent(high)}; true error {percent(f.relative_error(A))}, best possible "
        f"{percent(best[k])}",
    )
    g, seconds = timed(lambda: lr.cur(A, rank=k, rng=seed))
    low, high = g.certificate.interval
    result.row(
        f"CUR, {len(g.rows)} patches x {len(g.columns)} pixels",
        f"{1e3 * seconds:.0f} ms",
        "C and R are entries of A; the core stays factored",
    )
    result.row(
        "its certificate",
        percent(g.certificate.estimate),
        f"95 % interval {percent(low)} to {percent(high)}; true error {percent(g.relative_error(A))}",
    )
    rebuilt = photo_from(np.asarray(g.to_dense()), photo.shape)
    noise = np.mean((rebuilt.astype(float) - photo) ** 2)
    result.row(
        "the photo from its CUR",
        f"{10 * np.log10(255**2 / max(noise, 1e-9)):.1f} dB PSNR",
        f"{g.C.size + g.R.size + g.core.shape[0] * g.core.shape[1]:,} numbers instead of {A.size:,}",
    )
    result.figures += [
        page.Figure(
            page.photo_uri(with_frames(photo, g.rows)),
            f"The {len(g.rows)} patches that CUR picked, framed where they stand in the photograph.",
        ),
        page.Figure(
            page.photo_uri(rebuilt),
            f"The photograph rebuilt from {len(g.columns)} pixels of each patch and {len(g.rows)} whole patches.",
        ),
        page.Figure(
            picked_patches(A[g.rows]),
            "The picked patches themselves: edges, corners and colours, not abstract eigenpatches.",
        ),
        page.Figure(
            certificate_plot(A, best, seed, (8, 48) if quick else (4, 8, 16, 32, 64, 96, 128, 160)),
            "Error of column ID against its rank. The bars are the certificate's 95 % interval, the dots the true "
            "error, the line what no matrix of that rank can beat.",
        ),
    ]
    nystrom(result, A, quick, seed)
    return result


def nystrom(result: page.Act, A: np.ndarray, quick: bool, seed: int) -> None:
    """A Gaussian kernel over many patches, never formed."""
    n, k = (4_000, 100) if quick else (50_000, 500)
    rng = np.random.default_rng(seed)
    X = np.ascontiguousarray(A[rng.choice(len(A), n, replace=False)], dtype=np.float64)
    sample = X[:500]
    distance = np.sqrt(np.maximum(((sample[:, None] - sample[None]) ** 2).sum(-1), 0))
    kernel = lr.GaussianKernel(bandwidth=float(np.median(distance)))
    lr.nystrom(kernel, X[:2000], rank=50, rng=seed)  # compile
    K, seconds = timed(lambda: lr.nystrom(kernel, X, rank=k, rng=seed))
    result.row(
        f"Nystrom of a Gaussian kernel, {n:,} patches",
        f"{seconds:.2f} s",
        f"rank {k}; {K.entries_read:,} of {n * n:,} entries made ({percent(K.entries_read / n**2)}); trace error "
        f"{percent(K.trace_error)}",
    )
    result.figures += [
        page.Figure(
            picked_patches(X[K.landmarks[: 16 * 10]].astype(np.float32), columns=16),
            "The first landmarks of the kernel's Nystrom factor: patches that no earlier landmark explained.",
        ),
        page.Figure(trace_plot(K, n), "What remains of the kernel's trace after each landmark."),
    ]


def with_frames(photo: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The photo, a little dimmed, with each picked patch bright in a frame."""
    wide = photo.shape[1] - SIDE + 1
    picture = (0.45 * photo + 0.55 * 245).astype(np.uint8)
    for index in rows:
        y, x = divmod(int(index), wide)
        top, left = max(y - 2, 0), max(x - 2, 0)
        picture[top : y + SIDE + 2, left : x + SIDE + 2] = (15, 118, 110)
        picture[y : y + SIDE, x : x + SIDE] = photo[y : y + SIDE, x : x + SIDE]
    return picture


def picked_patches(rows: np.ndarray, columns: int = 8, zoom: int = 5) -> str:
    """Patches as a contact sheet."""
    count = -(-len(rows) // columns)
    cell = SIDE * zoom + 6
    sheet = np.full((count * cell, columns * cell, 3), 255, np.uint8)
    for n, row in enumerate(rows):
        y, x = divmod(n, columns)
        tile = np.clip(255 * row.reshape(SIDE, SIDE, 3), 0, 255).astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1)
        sheet[y * cell + 3 : y * cell + 3 + SIDE * zoom, x * cell + 3 : x * cell + 3 + SIDE * zoom] = tile
    return page.photo_uri(sheet, quality=92)


def certificate_plot(A: np.ndarray, best: np.ndarray, seed: int, ranks: tuple[int, ...]) -> str:
    """Error against rank: optimum, truth, certificate."""
    figure, ax = page.axes()
    ax.semilogy(np.arange(1, len(best)), best[1:], color=page.INK, lw=1.3, label="best possible (SVD)")
    colour, name = page.COLOURS["lowrank"], lambda label, k: label if k == ranks[0] else None
    for k in ranks:
        f = lr.column_id(A, rank=k, rng=seed)
        interval = f.certificate.interval
        ax.plot(
            [k, k], interval, color=colour, lw=7, alpha=0.35, solid_capstyle="round", label=name("certificate, 95 %", k)
        )
        ax.plot(k, f.relative_error(A), "o", color=colour, ms=5, label=name("true error", k))
    ax.set(xlabel="rank", ylabel="relative Frobenius error", ylim=(best[170], 0.5))
    ax.legend(frameon=False, fontsize=10)
    return page.plot_uri(figure)


def trace_plot(K, n: int) -> str:
    """Remaining share of the trace after each landmark."""
    figure, ax = page.axes()
    explained = np.cumsum(np.sum(np.abs(np.asarray(K.factor)) ** 2, axis=0))
    ax.semilogy(np.arange(1, len(explained) + 1), 1 - explained / n, color=page.COLOURS["lowrank"], lw=1.8)
    ax.set(xlabel="landmarks", ylabel="share of the trace left")
    return page.plot_uri(figure)
