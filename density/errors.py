"""What can be wrong with bytes that claim to be ours; every kind is a CorruptDataError, which is a ValueError."""


class CorruptDataError(ValueError):
    """The bytes cannot be decoded; nothing was returned from them."""


class NotOurDataError(CorruptDataError):
    """The bytes do not begin as our data begin."""


class UnknownVersionError(CorruptDataError):
    """The bytes are of a version that this release does not read."""


class TruncatedDataError(CorruptDataError):
    """The bytes end before, or go on after, where their header says."""


class ChecksumError(CorruptDataError):
    """A checksum does not match: some byte was changed."""


class ModelMismatchError(CorruptDataError):
    """The probability table rebuilt from the header is not the one that encoded the data."""


class LimitExceededError(CorruptDataError):
    """The header asks for more memory than the limit that was set."""
