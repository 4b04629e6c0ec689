"""Documents that repeat an earlier one of the corpus, in the same words or nearly.

Near duplicates are found by MinHash, as FineWeb's are (Penedo et al. 2024, arXiv:2406.17557): a document is the set of
its runs of five words, and repeats an earlier one if all hashes of a band agree. Where two sets have the Jaccard
similarity s, that has the chance 1 - (1 - s**8)**14: 5% at 0.5, 77% at 0.75, 92% at 0.8. Pairs are not compared again.
"""

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from llmcore.base.files import user_errors
from llmcore.data.documents import DocumentRow

SHINGLE_WORDS = 5
BANDS = 14
HASHES_PER_BAND = 8
SEED = 1  # of the hash functions


class DuplicateFinder:
    """Looks at each document once. Holds 8 bytes of it in memory and, for `near`, 112 bytes in a temporary file.

    The folder must exist; the file has no name in it, so that it is gone when this process is.
    """

    def __init__(self, folder: Path, *, near: bool):
        self._folder = folder
        self._texts = array("Q")
        with user_errors(folder):
            self._bands = TemporaryFile(dir=folder) if near else None  # noqa: SIM115 - it lives as long as this object

    def watch(self, rows: Iterable[DocumentRow]) -> Iterator[DocumentRow]:
        """Yield the rows after a look at each."""
        for row in rows:
            text = row["text"]
            self._texts.frombytes(hash_bytes(text.encode()))
            if self._bands:
                with user_errors(self._folder):
                    self._bands.write(band_keys(text))
            yield row

    def equal(self) -> np.ndarray:
        """Return of each document whether an earlier one has the same text."""
        return repeats(np.frombuffer(self._texts, np.uint64))

    def near(self) -> np.ndarray:
        """Return of each document whether it nearly repeats an earlier one, or equals it."""
        assert self._bands
        self._bands.flush()
        bands = np.memmap(self._bands, np.uint64, mode="r").reshape(-1, BANDS)
        found = np.zeros(len(bands), bool)
        for band in range(BANDS):
            found |= repeats(bands[:, band].copy())
        return found


def repeats(keys: np.ndarray) -> np.ndarray:
    """Return of each key whether the same one stands before it."""
    order = np.argsort(keys, kind="stable")
    found = np.zeros(len(keys), bool)
    ordered = keys[order]
    found[order[1:][ordered[1:] == ordered[:-1]]] = True
    return found


def band_keys(text: str) -> bytes:
    """Return a hash of 8 bytes for each band of the text's MinHash; letter case and white space are no difference."""
    from rensa import RMinHash

    words = text.casefold().split()
    last = max(1, len(words) - SHINGLE_WORDS + 1)
    minhash = RMinHash(num_perm=BANDS * HASHES_PER_BAND, seed=SEED)
    minhash.update([" ".join(words[begin : begin + SHINGLE_WORDS]) for begin in range(last)])
    bands = np.array(minhash.digest(), "<u4").reshape(BANDS, HASHES_PER_BAND)
    return b"".join(hash_bytes(band.tobytes()) for band in bands)


def hash_bytes(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()
