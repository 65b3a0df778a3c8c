"""Files of a zip archive, or of the folder it was unpacked to, read without unpacking anything."""

import hashlib
import lzma
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from hclmp.errors import UserError, join_some
from hclmp.provenance import hash_of, sha256

LARGEST = 4 << 30
"""Bytes of a file that is read: some hundred times the largest of the paper's archive. A zip file
of a few kilobytes can announce, and unpack to, any number."""

# what the packings of the zip format raise for damaged bytes, and files that may not be read
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(RuntimeError, NotImplementedError, ValueError, MemoryError),
)


def archive_folder(path: Path, name: str) -> Path | None:
    """A folder of the unpacked archive, at its top or in its ``data``; None: not there."""
    return next((p for p in (path / name, path / "data" / name) if p.is_dir()), None)


class Archive:
    """The files of ``data.zip`` or of its folder, under a top-level ``data/`` or not.

    Args:
        path: of the zip file or of the folder.
        top: the folders that the release has at its top; where one is found, all others are.

    Raises:
        UserError: no such file or folder, no zip archive, a member whose path leads out of the
            archive, or none of ``top`` in it.
    """

    def __init__(self, path: str | Path, *, top: Sequence[str]) -> None:
        self.path = Path(path)
        self._zip = None if self.path.is_dir() else _opened(self.path)
        self._names = set() if self._zip is None else set(_checked(self.path, self._zip))
        self._used: set[str] = set()
        roots = [root for root in ("", "data/") if any(self._holds(root + name) for name in top)]
        if not roots:
            raise UserError(
                f"{path}: not the archive of H-CLMP: neither {' nor '.join(top)} is in it or in "
                "its folder `data`"
            )
        self._root = roots[0]

    def __contains__(self, name: str) -> bool:
        full = self._root + name
        return full in self._names if self._zip else (self.path / full).is_file()

    def _holds(self, folder: str) -> bool:
        if self._zip is None:
            return (self.path / folder).is_dir()
        return any(name.startswith(f"{folder}/") for name in self._names)

    def names(self, folder: str, suffix: str) -> list[str]:
        """The files directly in a folder with this suffix, sorted; hidden ones are passed over."""
        prefix = f"{self._root}{folder}/"
        if self._zip is None:
            found = [p.name for p in (self.path / prefix).glob(f"*{suffix}") if p.is_file()]
        else:
            inside = (n.removeprefix(prefix) for n in self._names if n.startswith(prefix))
            found = [n for n in inside if "/" not in n and n.endswith(suffix)]
        return sorted(f"{folder}/{name}" for name in found if not name.startswith("."))

    def origin(self, name: str) -> str:
        """A file of the archive as messages name it."""
        return f"{self.path}: {self._root}{name}"

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            UserError: it is not there, damaged or larger than ``LARGEST``.
        """
        if name not in self:
            raise UserError(f"{self.origin(name)}: no such file in it")
        self._used.add(name)
        full = self._root + name
        try:
            if self._zip is None:
                size = (self.path / full).stat().st_size
            else:  # what the zip says, beyond which ``zipfile`` reads none
                size = self._zip.getinfo(full).file_size
            if size <= LARGEST:
                return self._zip.read(full) if self._zip else (self.path / full).read_bytes()
        except DAMAGED as error:
            reason = str(error) or type(error).__name__
            message = f"{self.origin(name)}: cannot be read: {reason}. Download the archive again"
            raise UserError(message) from error
        raise UserError(
            f"{self.origin(name)}: has {size} bytes, and is not read: no file of the archive has "
            f"more than {LARGEST}. Download the archive again"
        )

    def sha256(self) -> str:
        """Of the zip file's bytes; of a folder, over the names and bytes of the files read."""
        if self._zip is not None:
            return sha256(self.path)
        return hash_of({n: hashlib.sha256(self.read(n)).hexdigest() for n in sorted(self._used)})


def _opened(path: Path) -> zipfile.ZipFile:
    if not path.is_file():
        raise UserError(
            f"{path}: no such file or folder (paths are relative to the working directory)"
        )
    try:
        return zipfile.ZipFile(path)
    except DAMAGED as error:
        raise UserError(f"{path}: not a zip archive ({error}); download it again") from error


def _checked(path: Path, archive: zipfile.ZipFile) -> list[str]:
    """The names of the members, none of which leads out of the archive."""
    bad = []
    for member in archive.infolist():
        # `orig_filename`: `filename` has been cut at a null byte and cleaned of backslashes.
        name = member.orig_filename.replace("\\", "/")
        if name.startswith("/") or ".." in PurePosixPath(name).parts or name[1:2] == ":":
            bad.append(f"`{member.orig_filename}` (leads out of the archive)")
        elif stat.S_ISLNK(member.external_attr >> 16):
            bad.append(f"`{member.orig_filename}` (a link)")
    if bad:
        raise UserError(f"{path}: refused because of {join_some(bad)}; take it from its publisher")
    return archive.namelist()
