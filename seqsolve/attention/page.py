"""The page-flipping recurrent network: before each answer the whole history is read again from its first page."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

State = TypeVar("State")


def page_flipping(
    x: tuple[Tensor, ...],
    start: Callable[..., State],
    step: Callable[..., State],
    read: Callable[..., Tensor],
    *,
    dim: int = 2,
) -> Tensor:
    """A recurrence that re-reads its whole history for each new token, in the memory of one state.

    ``s_t^0 = start(x_t)``, ``s_t^j = step(s_t^{j-1}, x_t, x_j)`` for j = 1..t, ``y_t = read(s_t^t, x_t)``.
    A network that reads each token once forgets what it did not expect to need; one that may flip back the pages
    reads them with the question in mind. Softmax attention is this network: its state is (m, l, acc), its question q_t.

    Parameters
    ----------
    x : tensors with time on axis `dim`, say (q, k, v).
    start : ``start(x_t) -> state``; x_t is a tuple of the tensors at step t, the time axis kept with length 1.
    step : ``step(state, x_t, x_j) -> state``, called t times for the t-th token.
    read : ``read(state, x_t) -> tensor`` with time axis of length 1.
    dim : the time axis.

    Returns
    -------
    Tensor
        The answers, joined along `dim`.

    Raises
    ------
    ValueError
        When the tensors differ in length, or there is no step.

    Notes
    -----
    Complexity: T (T + 1) / 2 steps; one state is alive at a time.

    References
    ----------
    Su (2024), kexue.fm/archives/10017, where attention is read as an RNN of quadratic complexity.

    Examples
    --------
    >>> import torch
    >>> from seqsolve.attention import SoftmaxState, causal, page_flipping
    >>> q, k, v = torch.randn(3, 1, 1, 5, 4, generator=torch.Generator().manual_seed(7))
    >>> y = page_flipping(
    ...     (q, k, v),
    ...     start=lambda now: SoftmaxState.empty(1, 1, 1, dv=4),
    ...     step=lambda state, now, then: state.update(now[0], then[1], then[2]),
    ...     read=lambda state, now: state.output(),
    ... )
    >>> torch.allclose(y, causal(q, k, v)[0], atol=1e-6)
    True
    """
    lengths = {part.shape[dim] for part in x}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"the tensors have {sorted(lengths)} steps on axis {dim}; expected one common length >= 1")
    pages = [tuple(part.narrow(dim, t, 1) for part in x) for t in range(lengths.pop())]
    answers = []
    for t, now in enumerate(pages):
        state = start(now)
        for then in pages[: t + 1]:
            state = step(state, now, then)
        answers.append(read(state, now))
    return torch.cat(answers, dim)
