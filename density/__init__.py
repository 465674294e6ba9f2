"""One-dimensional densities by maximum likelihood, certified optimal, and compression with them.

``import density as ds``; each name below lives in the file of the same idea.
"""

from typing import TYPE_CHECKING

from ._lazy import attach

if TYPE_CHECKING:
    from . import gallery as gallery
    from .coding import compress as compress
    from .coding import decompress as decompress
    from .entropy_model import FourierEntropyModel as FourierEntropyModel
    from .errors import ChecksumError as ChecksumError
    from .errors import CorruptDataError as CorruptDataError
    from .errors import LimitExceededError as LimitExceededError
    from .errors import ModelMismatchError as ModelMismatchError
    from .errors import NotOurDataError as NotOurDataError
    from .errors import TruncatedDataError as TruncatedDataError
    from .errors import UnknownVersionError as UnknownVersionError
    from .estimators import FourierDensityEstimator as FourierDensityEstimator
    from .fitting import fit as fit
    from .fourier import FourierDensity as FourierDensity
    from .histogram import HistogramSketch as HistogramSketch
    from .reading import CompressedReader as CompressedReader
    from .report import FitReport as FitReport
    from .report import FitWarning as FitWarning
    from .report import Status as Status
    from .storage import from_bytes as from_bytes
    from .streaming import CompressedWriter as CompressedWriter
    from .tensors import TensorReport as TensorReport
    from .tensors import compress_tensors as compress_tensors
    from .tensors import decompress_tensors as decompress_tensors
    from .tensors import tensor_reports as tensor_reports

__version__ = "0.1.0"

_EXPORTS = {
    "ChecksumError": "errors",
    "CompressedReader": "reading",
    "CompressedWriter": "streaming",
    "CorruptDataError": "errors",
    "FitReport": "report",
    "FitWarning": "report",
    "FourierDensity": "fourier",
    "FourierDensityEstimator": "estimators",
    "FourierEntropyModel": "entropy_model",
    "HistogramSketch": "histogram",
    "LimitExceededError": "errors",
    "ModelMismatchError": "errors",
    "NotOurDataError": "errors",
    "Status": "report",
    "TensorReport": "tensors",
    "TruncatedDataError": "errors",
    "UnknownVersionError": "errors",
    "compress": "coding",
    "compress_tensors": "tensors",
    "decompress": "coding",
    "decompress_tensors": "tensors",
    "fit": "fitting",
    "from_bytes": "storage",
    "gallery": "gallery",
    "tensor_reports": "tensors",
}
__all__ = [
    "ChecksumError",
    "CompressedReader",
    "CompressedWriter",
    "CorruptDataError",
    "FitReport",
    "FitWarning",
    "FourierDensity",
    "FourierDensityEstimator",
    "FourierEntropyModel",
    "HistogramSketch",
    "LimitExceededError",
    "ModelMismatchError",
    "NotOurDataError",
    "Status",
    "TensorReport",
    "TruncatedDataError",
    "UnknownVersionError",
    "compress",
    "compress_tensors",
    "decompress",
    "decompress_tensors",
    "fit",
    "from_bytes",
    "gallery",
    "tensor_reports",
]
__getattr__, __dir__ = attach(__name__, _EXPORTS)
