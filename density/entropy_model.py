"""A learned entropy model for latents of a network: one Fourier density a channel, or one a value from features."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from .bin_mass import autocorrelation, bin_bits
from .checksum import checksum_of, seal, unsealed
from .conditional import FrozenHead, decode_each, encode_each, freeze_head
from .errors import ChecksumError
from .frozen import FrozenDensity, freeze_density
from .quantisers import MODES, checked_sharpness, quantise
from .rans import FrequencyTables, decode, encode
from .spectral import spectral_start

_MAX_ORDER = 128
_MIN_TAIL, _MAX_TAIL = 1e-6, 0.1
_MIN_SCALE, _MAX_SCALE = math.log(2.0**-7), math.log(2.0**23)  # in steps; see `frozen`


class FourierEntropyModel(nn.Module):
    """Rate of quantised latents under a Fourier density for each channel, and their bytes.

    With a step D, a location t and a scale s for each channel, a latent y becomes y_hat = t + D round((y - t) / D) and
    costs -log2 of the mass of the bin y_hat +- D/2 under

        q(y) = (1 - tail) p(F((y - t) / s)) F'((y - t) / s) / s + tail / (2 s (1 + |y - t| / s)^2),

    where F is the logistic function, p(u) = |sum_k a_k exp(i k pi u)|^2 / |a|^2 on [0, 1], and the second term is a
    safety tail that gives an outlier a gradient at any distance. While training, a stand-in with a gradient replaces
    the rounding (`quantisation`).

    Parameters
    ----------
    channels : number of channels C; they lie on axis 1.
    order : K, harmonics of each density; K + 1 coefficients a channel.
    step : initial step D > 0.
    init_scale : initial scale s of the logistic density, in units of y; `init_from_data` replaces it.
    learn_step : whether the step is trained; otherwise it is a buffer.
    quantisation : "noise", "soft-round" or "straight-through", for training; evaluation always rounds.
    sharpness : 0..12 of the soft rounding; an attribute that may be raised while training.
    tail : share of the safety tail, 1e-6..0.1; a constant, never trained.
    features : F, number of feature channels of a conditional model; each value then has its own density, predicted
        from them by one linear map that starts at zero. None: one density a channel.

    Attributes
    ----------
    coefficients : (C, K + 1) parameter a, of any norm.
    location, log_scale : (C, 1) parameters.
    log_step : (C, 1) parameter or buffer.

    Raises
    ------
    ValueError : NaN or infinite latents, a wrong number of channels, an unknown mode.

    Complexity
    ----------
    O(K) a value, forward and backward; on the CPU in fused kernels that run on ``torch.get_num_threads()`` threads.

    References
    ----------
    De la Fuente, Singh and Balle (2024), arXiv:2402.15345; Balle, Minnen, Singh, Hwang and Johnston (2018),
    arXiv:1802.01436; Agustsson and Theis (2020), arXiv:2006.09952.

    Examples
    --------
    >>> import torch
    >>> from density.entropy_model import FourierEntropyModel
    >>> model = FourierEntropyModel(channels=2, order=4).eval()
    >>> y = torch.tensor([[[0.2, 3.7], [-1.4, 0.0]]])
    >>> y_hat, bits = model(y)
    >>> y_hat.tolist()
    [[[0.0, 4.0], [-1.0, 0.0]]]
    >>> strings = model.compress(y)
    >>> bool((model.decompress(strings, [2]) == y_hat).all())
    True
    """

    coefficients: nn.Parameter
    location: nn.Parameter
    log_scale: nn.Parameter
    log_step: Tensor
    frozen: Tensor
    frozen_coefficients: Tensor
    frozen_ratios: Tensor
    frozen_weight: Tensor
    frozen_bias: Tensor
    frozen_grid: Tensor
    frozen_tail: Tensor

    def __init__(
        self,
        channels: int,
        order: int = 16,
        *,
        step: float = 1.0,
        init_scale: float = 4.0,
        learn_step: bool = False,
        quantisation: str = "noise",
        sharpness: float = 4.0,
        tail: float = 1e-4,
        features: int | None = None,
    ) -> None:
        super().__init__()
        self.channels = _count(channels, "channels", 2**20)
        self.order = _count(order, "order", _MAX_ORDER)
        self.features = None if features is None else _count(features, "features", 2**20)
        self.quantisation = _training_mode(quantisation)
        self.sharpness = checked_sharpness(sharpness)
        self.tail = float(tail)
        if not _MIN_TAIL <= self.tail <= _MAX_TAIL:
            raise ValueError(f"tail={tail!r} is outside {_MIN_TAIL:g}..{_MAX_TAIL:g}; 1e-4 costs 1e-4 bits a value")
        C, K = self.channels, self.order
        flat = torch.zeros(C, K + 1)
        flat[:, 0] = 1.0
        self.coefficients = nn.Parameter(flat)
        self.location = nn.Parameter(torch.zeros(C, 1))
        self.log_scale = nn.Parameter(torch.full((C, 1), math.log(_positive(init_scale, "init_scale"))))
        log_step = torch.full((C, 1), math.log(_positive(step, "step")))
        if learn_step:
            self.log_step = nn.Parameter(log_step)
        else:
            self.register_buffer("log_step", log_step)
        if self.features is not None:
            self.head = nn.Linear(self.features, C * (K + 3))
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

        # What decoding depends on: integers, which no change of device or dtype touches.
        self.register_buffer("frozen", torch.zeros((), dtype=torch.bool))
        if self.features is None:
            self.register_buffer("frozen_coefficients", torch.zeros(C, K + 1, dtype=torch.int32))
            self.register_buffer("frozen_ratios", torch.zeros(C, dtype=torch.int32))
        else:
            self.register_buffer("frozen_weight", torch.zeros(C, K + 3, self.features, dtype=torch.int64))
            self.register_buffer("frozen_bias", torch.zeros(C, K + 3, dtype=torch.int64))
        self.register_buffer("frozen_grid", torch.zeros(2, C, dtype=torch.int64))  # bits of float64: location, step
        self.register_buffer("frozen_tail", torch.zeros((), dtype=torch.int64))
        self._tables: tuple[FrozenDensity, FrequencyTables] | None = None

    def extra_repr(self) -> str:
        text = f"channels={self.channels}, order={self.order}, quantisation={self.quantisation!r}"
        return text + ("" if self.features is None else f", features={self.features}")

    # --- the rate ---

    def forward(
        self,
        y: Tensor,
        features: Tensor | None = None,
        *,
        mode: str | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Quantised latents and the bits that each costs.

        Parameters
        ----------
        y : (N, C, ...) floats.
        features : (N, F, ...) of the same spatial shape, for a conditional model.
        mode : "noise", "soft-round", "straight-through" or "round"; None: `quantisation` while training, else "round".
        generator : of the noise, on the device of y.

        Returns
        -------
        y_hat : like y.
        bits : the shape of y, float64 for float64 input, else float32.
        """
        values = self._checked(y)
        mode = (self.quantisation if self.training else "round") if mode is None else mode
        if mode not in MODES:
            raise ValueError(f"mode={mode!r} is not known; expected one of {', '.join(map(repr, MODES))}")
        with torch.autocast(y.device.type, enabled=False):
            location, log_scale, log_step, a = self._parameters_of(values, features)
            if mode == "round":
                location, step = self._grid(values, features, location)
                v = torch.round((values.detach().double() - location) / step)
                centre = (step * v).to(values.dtype)
                y_hat = location + step * v
            else:
                step = torch.exp(log_step)
                centre = step * quantise((values - location) / step, mode, self.sharpness, generator)
                y_hat = location + centre
            bits = bin_bits(centre, log_scale, log_step, a, self.tail)
        return y_hat.to(y.dtype).reshape(y.shape), bits.reshape(y.shape)

    def bits(self, y: Tensor, features: Tensor | None = None) -> Tensor:
        """-log2 of the mass of y +- D/2, y as it is: nothing is rounded."""
        values = self._checked(y)
        with torch.autocast(y.device.type, enabled=False):
            location, log_scale, log_step, a = self._parameters_of(values, features)
            return bin_bits(values - location, log_scale, log_step, a, self.tail).reshape(y.shape)

    def likelihood(self, y: Tensor, features: Tensor | None = None) -> Tensor:
        """Mass of y +- D/2, never below the smallest normal number; train on `bits`, whose gradient does not vanish."""
        mass = torch.exp2(-self.bits(y, features))
        return mass.clamp_min(torch.finfo(mass.dtype).tiny)

    def roughness(self) -> Tensor:
        """Mean over the channels of the integral of p'(u)^2 over [0, 1]: the paper's regulariser.

        2 pi^2 sum_k k^2 c_k^2, to be added to a loss as ``gamma * model.roughness()``; De la Fuente, Singh and Balle
        (2024), section 3.
        """
        a = self.coefficients
        c = autocorrelation(a if a.dtype == torch.float64 else a.float())
        k = torch.arange(1, self.order + 1, dtype=c.dtype, device=c.device)
        return 2 * math.pi**2 * (k * c).square().sum(-1).mean()

    @torch.no_grad()
    def init_from_data(self, y: Tensor) -> "FourierEntropyModel":
        """Set location, scale and coefficients of each channel from latents, in closed form.

        Median and quartiles give the logistic map; the Fourier coefficients of the mapped data, smoothed so that they
        belong to a density, are factored through the cepstrum (Kolmogorov). O(n K) for n values.

        Parameters
        ----------
        y : (N, C, ...) latents, at least two a channel.
        """
        values = self._checked(y).double()
        samples = values.movedim(1, 0).reshape(self.channels, -1)
        if samples.shape[1] < 2:
            raise ValueError(f"y has {samples.shape[1]} values a channel; init_from_data needs at least 2")
        log_step = self.log_step.double()
        location, log_scale, a = spectral_start(samples, log_step, self.order, self.tail)
        self.location.copy_(location)
        self.log_scale.copy_(_bounded(log_scale, log_step))
        self.coefficients.copy_(a)
        if self.features is not None:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        return self.unfreeze()

    # --- the bytes ---

    @torch.no_grad()
    def freeze(self) -> "FourierEntropyModel":
        """Round the parameters to the integers that `compress` and `decompress` use; they travel in the state_dict."""
        for name, value in self._rounded().items():
            getattr(self, name).copy_(value)
        self.frozen.fill_(True)
        return self

    @torch.no_grad()
    def unfreeze(self) -> "FourierEntropyModel":
        """Forget the integers; strings written with them need a copy of the model that still has them."""
        self.frozen.fill_(False)
        return self

    @torch.no_grad()
    def compress(self, y: Tensor, features: Tensor | None = None) -> list[bytes]:
        """One string for each item of the batch; it does not depend on the rest of the batch and ends with a checksum.

        Freezes the model if it is not frozen. The strings are as long as ``model.eval()(y)[1].sum()`` says, within
        0.1 % and 32 bytes each.

        Raises
        ------
        RuntimeError : the parameters changed after `freeze`.
        ValueError : NaN or infinite values, or values more than 2^52 steps from the location.
        """
        values = self._checked(y)
        if not self.frozen:
            self.freeze()
        self._still_frozen()
        strings = []
        for item, given in zip(values.cpu().double(), self._items(features, values)):
            location, step, densities = self._coder(given)
            v = torch.round((item - location) / step)
            if v.numel() and v.abs().max() >= 2.0**52:
                raise ValueError(f"y reaches {v.abs().max():.3g} steps from the location; fewer than 2^52 can be coded")
            symbols = _array(v.to(torch.int64)).ravel()
            if isinstance(densities, FrozenDensity):
                stream = encode_each(symbols, densities)
            else:
                stream = encode(symbols, densities, contexts=self._channel_of(item.shape[1]))
            strings.append(seal(stream, symbols))
        return strings

    @torch.no_grad()
    def decompress(self, strings: list[bytes], size=(), features: Tensor | None = None) -> Tensor:
        """The (len(strings), C, *size) latents of `compress`, exactly as ``model.eval()`` gives them.

        Parameters
        ----------
        strings : what `compress` returned.
        size : spatial shape, y.shape[2:].
        features : for a conditional model, what `compress` was given, equal after rounding to 2^-12.

        Raises
        ------
        CorruptDataError : a string that is not whole, or was made for another shape or by another model.
        RuntimeError : the model is not frozen, so that it cannot be the one that wrote the strings.
        """
        if isinstance(strings, bytes | bytearray | memoryview | str):
            raise TypeError("strings is one string; pass the list that compress returned, one entry for each item")
        if not self.frozen:
            raise RuntimeError("the model is not frozen, so it wrote no strings; load a state_dict that is frozen")
        size = tuple(_count(n, "an entry of size", 2**40, least=0) for n in size)
        length, kind = math.prod(size), self.location
        y_hat = torch.empty(len(strings), self.channels, length, dtype=kind.dtype)
        for n, (string, given) in enumerate(zip(strings, self._items(features, y_hat))):
            location, step, densities = self._coder(given)
            stream, check = unsealed(string)
            if isinstance(densities, FrozenDensity):
                symbols = decode_each(stream, densities)
            else:
                symbols = decode(stream, self.channels * length, densities, contexts=self._channel_of(length))
            if checksum_of(symbols) != check:
                raise ChecksumError(f"strings[{n}] decodes to other latents than were encoded: bytes or model changed")
            v = torch.from_numpy(symbols).reshape(self.channels, length).double()
            y_hat[n] = (location + step * v).to(kind.dtype)
        return y_hat.reshape(len(strings), self.channels, *size).to(kind.device)

    # --- inside ---

    def _checked(self, y: Tensor) -> Tensor:
        """(N, C, L) in the dtype of the computation."""
        if not isinstance(y, Tensor):
            raise TypeError(f"y is {type(y).__name__}; pass a torch tensor, channels on axis 1")
        if y.ndim < 2 or y.shape[1] != self.channels:
            raise ValueError(f"y has shape {tuple(y.shape)}; expected (N, {self.channels}, ...), channels on axis 1")
        if not y.is_floating_point():
            raise TypeError(f"y is {y.dtype}; expected floating-point latents: y.float()")
        if y.device != self.location.device:
            raise ValueError(f"y is on {y.device} and the model on {self.location.device}; move one to the other")
        if not torch.isfinite(y).all():
            nans, infs = int(torch.isnan(y).sum()), int(torch.isinf(y).sum())
            raise ValueError(f"y holds {nans} NaN and {infs} infinite values; look for a diverged encoder")
        dtype = torch.float64 if y.dtype == torch.float64 else torch.float32
        return y.to(dtype).reshape(y.shape[0], self.channels, math.prod(y.shape[2:]))

    def _parameters_of(self, values: Tensor, features: Tensor | None):
        """location, log_scale, log_step and a in the dtype of the computation: a channel's, or a value's."""
        dtype = values.dtype
        location, log_scale = self.location.to(dtype), self.log_scale.to(dtype)
        log_step, a = self.log_step.to(dtype), self.coefficients.to(dtype)
        if self.features is None:
            self._no_features(features)
        else:
            shift, stretch, change = self._predict(values, features)
            step = torch.exp(log_step)
            location, log_scale, a = location + step * shift, log_scale + stretch, a.unsqueeze(1) + change
        return location, _bounded(log_scale, log_step), log_step, a

    def _predict(self, values: Tensor, features: Tensor | None):
        """What the head adds to location (in steps), log_scale and a: (N, C, L), (N, C, L), (N, C, L, K + 1)."""
        N, C, L = values.shape
        rows = self._checked_features(features, values).to(values.dtype).transpose(1, 2)
        weight, bias = self.head.weight.to(values.dtype), self.head.bias.to(values.dtype)
        out = nn.functional.linear(rows, weight, bias).reshape(N, L, C, self.order + 3).transpose(1, 2)
        return out[..., 0], out[..., 1], out[..., 2:]

    def _checked_features(self, features: Tensor | None, values: Tensor) -> Tensor:
        """(N, F, L)."""
        N, _, L = values.shape
        expected = f"(N, {self.features}, ...) with the batch and spatial shape of y"
        if features is None:
            raise ValueError(f"this model is conditional: pass features of shape {expected}")
        if features.ndim < 2 or features.shape[:2] != (N, self.features) or math.prod(features.shape[2:]) != L:
            raise ValueError(f"features have shape {tuple(features.shape)}; expected {expected}")
        if not torch.isfinite(features).all():
            raise ValueError("features hold NaN or infinite values")
        return features.reshape(N, -1, L)

    def _grid(self, values: Tensor, features: Tensor | None, location: Tensor) -> tuple[Tensor, Tensor]:
        """Location and step in float64: the frozen ones if there are any, so that evaluation and decoding agree."""
        if not self.frozen:
            return location.double(), torch.exp(self.log_step.detach().double())
        if self.features is None:
            location, step = self.frozen_grid.view(torch.float64).unsqueeze(-1)
            return location, step
        found = [self._coder(given)[:2] for given in self._items(features, values)]
        if not found:
            return location.double(), torch.exp(self.log_step.detach().double())
        return torch.stack([one[0] for one in found]).to(values.device), found[0][1].to(values.device)

    def _items(self, features: Tensor | None, values: Tensor) -> list[Tensor | None]:
        """(F, L) features of each item, None without features."""
        if self.features is None:
            self._no_features(features)
            return [None] * len(values)
        return list(self._checked_features(features, values))

    def _no_features(self, features: Tensor | None) -> None:
        if features is not None:
            raise ValueError("features were passed to a model without them; build it with features=F")

    def _coder(self, features: Tensor | None) -> tuple[Tensor, Tensor, FrequencyTables | FrozenDensity]:
        """Location and step of one item in float64 on the CPU, and its tables by channel or its densities by value."""
        location, step = self.frozen_grid.cpu().view(torch.float64).unsqueeze(-1)
        tail = int(self.frozen_tail)
        if features is None:
            density = FrozenDensity(_array(self.frozen_coefficients), _array(self.frozen_ratios), tail)
            return location, step, self._tables_of(density)
        head = FrozenHead(_array(self.frozen_weight), _array(self.frozen_bias), tail)
        shifts, density = head.predict(_array(features.double()))
        return location + step * torch.from_numpy(shifts).reshape(self.channels, -1), step, density

    def _tables_of(self, density: FrozenDensity) -> FrequencyTables:
        known = self._tables
        if known is None or not _same(known[0], density):
            copy = FrozenDensity(density.coefficients.copy(), density.ratios.copy(), density.tail)
            known = self._tables = copy, copy.tables()
        return known[1]

    def _channel_of(self, length: int) -> np.ndarray:
        return np.repeat(np.arange(self.channels), length)

    def _rounded(self) -> dict[str, Tensor]:
        """What the integer buffers would hold for the parameters as they are."""
        log_step, a = self.log_step.double(), self.coefficients.double()
        scale, step = torch.exp(_bounded(self.log_scale.double(), log_step)), torch.exp(log_step)
        grid = torch.cat([self.location.double(), step], 1).T.contiguous().view(torch.int64)
        density = freeze_density(_array(a), _array(scale).ravel(), _array(step).ravel(), self.tail)
        rounded = {"frozen_grid": grid, "frozen_tail": torch.tensor(density.tail)}
        if self.features is None:
            parts = {"frozen_coefficients": density.coefficients, "frozen_ratios": density.ratios}
        else:
            shape = (self.channels, self.order + 3)
            weight, bias = self.head.weight.double().reshape(*shape, -1), self.head.bias.double().reshape(shape)
            ratios = _array(torch.log2(0.5 * step / scale)).ravel()
            head = freeze_head(_array(weight), _array(bias), ratios, _array(a), density.tail)
            parts = {"frozen_weight": head.weight, "frozen_bias": head.bias}
        return rounded | {name: torch.from_numpy(part) for name, part in parts.items()}

    def _still_frozen(self) -> None:
        """The integers follow from the parameters up to the last place, which another machine may round otherwise."""
        for name, now in self._rounded().items():
            then = getattr(self, name).cpu()
            if name == "frozen_grid":
                now, then = now.cpu().view(torch.float64), then.view(torch.float64)
                same = (now - then).abs() <= 1e-12 * then.abs()
            else:
                same = (now.cpu().long() - then.long()).abs() <= 1
            if not same.all():
                raise RuntimeError(
                    "the parameters changed after freeze(); call freeze() again, and keep the earlier state_dict "
                    "for the strings that were written with it"
                )

    def __getstate__(self):
        return {**self.__dict__, "_tables": None}  # made again when needed


def _bounded(log_scale: Tensor, log_step: Tensor) -> Tensor:
    """Between 2^-7 and 2^23 steps; the gradient passes as if there were no bound, so that nothing gets stuck at it."""
    inside = torch.clamp(log_scale - log_step, _MIN_SCALE, _MAX_SCALE) + log_step
    return log_scale + (inside - log_scale).detach()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _same(a: FrozenDensity, b: FrozenDensity) -> bool:
    equal = np.array_equal(a.coefficients, b.coefficients) and np.array_equal(a.ratios, b.ratios)
    return equal and a.tail == b.tail


def _count(value, name: str, most: int, least: int = 1) -> int:
    if isinstance(value, bool) or int(value) != value or not least <= value <= most:
        raise ValueError(f"{name}={value!r} is not an integer in {least}..{most}")
    return int(value)


def _positive(value: float, name: str) -> float:
    value = float(value)
    if not (0 < value < math.inf):
        raise ValueError(f"{name}={value!r} must be finite and > 0")
    return value


def _training_mode(mode: str) -> str:
    if mode not in MODES[:3]:
        raise ValueError(f"quantisation={mode!r} is not known; expected one of {', '.join(map(repr, MODES[:3]))}")
    return mode
