"""The part of a file that may still be needed: a reader of damaged data looks back, but not to the beginning."""

from collections.abc import Callable


class Window:
    """Bytes of a file from a place on, read as they are asked for and held until they are forgotten.

    Parameters
    ----------
    take : gives so many of the next bytes, fewer only where the file ends.
    at : where in the file the next byte stands.
    piece : bytes read at once beyond what is asked for.
    """

    def __init__(self, take: Callable[[int], bytes], at: int, piece: int) -> None:
        self._take, self._piece = take, piece
        self._held, self._begin, self._ended = bytearray(), at, False

    @property
    def end(self) -> int:
        """Where the bytes that were read so far end."""
        return self._begin + len(self._held)

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return len(self._held)

    def read(self, at: int, size: int) -> bytes:
        """Up to `size` bytes from a place: fewer only where the file ends."""
        while self.end < at + size and self._more():
            pass
        begin = at - self._begin
        return bytes(memoryview(self._held)[begin : begin + size])

    def find(self, mark: bytes, at: int) -> int:
        """Where `mark` next begins, or where the file ends; what lies before is forgotten."""
        while True:
            found = self._held.find(mark, max(0, at - self._begin))
            if found >= 0:
                self.forget(self._begin + found)
                return self._begin
            at = max(at, self.end - len(mark) + 1)
            self.forget(at)
            if not self._more():
                return self.end

    def forget(self, before: int) -> None:
        """Let go of what lies before a place."""
        cut = min(before - self._begin, len(self._held))
        if cut > 0:
            del self._held[:cut]
            self._begin += cut

    def _more(self) -> bool:
        if not self._ended:
            piece = self._take(self._piece)
            self._ended = len(piece) < self._piece
            self._held += piece
            return bool(piece)
        return False
