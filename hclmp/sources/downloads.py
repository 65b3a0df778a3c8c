"""Files to download: a registry of them with their hashes, and the download itself."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

import hclmp
from hclmp.config.base import Positive, Section
from hclmp.config.explain import explain
from hclmp.errors import UserError, join_some
from hclmp.files import atomic_write
from hclmp.provenance import sha256

log = logging.getLogger(__name__)

REGISTRY = Path("config/downloads.yaml")
TIMEOUT = 60
"""Seconds without a byte after which the download fails."""


class Download(Section):
    """One entry of the registry."""

    what: str
    used_as: str
    """The configuration that uses it."""
    licence: str
    citation: str
    file: Annotated[str, Field(pattern=r"^\w[\w.-]*$")] | None = None
    """Its name under `data/raw/`; none where it is not one file."""
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    """Where it is downloaded from."""
    how: str | None = None
    """Instead of `url`: what to do by hand."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Of its bytes; null: not recorded yet, a download is not verified."""
    size: Positive | None = None
    """In bytes, if known."""

    @model_validator(mode="after")
    def _one_way(self) -> "Download":
        if (self.url is None) == (self.how is None):
            raise ValueError("has either `url` or `how`, what to do by hand")
        if self.file is None and (self.url or self.sha256 or self.size):
            raise ValueError("`url`, `sha256` and `size` are those of a `file`")
        return self


OWN: dict[str, tuple[str, str, str]] = {
    "demo": ("oxides simulated by a tight-binding model", "MIT, as hclmp", "nothing: simulated"),
    "table": ("your own CSV or Parquet file", "yours", "`hclmp new DIRECTORY --targets FILE`"),
}
"""Sources that need no download: what they are, licence, how to get them."""


def registry_file() -> Path:
    """The registry of the working directory, or else of the checkout that hclmp runs from.

    Raises:
        UserError: neither has one.
    """
    shipped = Path(hclmp.__file__).parent.parent / REGISTRY
    if REGISTRY.is_file() or shipped.is_file():
        return REGISTRY if REGISTRY.is_file() else shipped
    raise UserError(
        f"no registry of downloads: {REGISTRY} is neither in the working directory nor at "
        f"{shipped}. Run this in a checkout of hclmp, or copy the file from one."
    )


def read_registry(path: Path) -> dict[str, Download]:
    """Read and check a registry.

    Raises:
        UserError: it is not YAML, or an entry has unknown, missing or bad keys.
    """
    import yaml

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(raw, Mapping):
        raise UserError(f"{path}: a registry is a mapping of names to entries")
    entries, problems = dict[str, Download](), list[str]()
    for name, entry in raw.items():
        try:
            entries[str(name)] = Download.model_validate(entry)
        except ValidationError as error:
            problems += [explain(dict(found), Download, str(name)) for found in error.errors()]
    if problems:
        raise UserError(f"{path}: {'; '.join(problems)}")
    return entries


def fetch(name: str, folder: Path) -> Path:
    """Download a file of the registry, or verify the one that is there already; the file.

    Nothing is requested for a file that is there. A download is complete and, where the registry
    knows its hash, verified, or it leaves nothing behind.

    Raises:
        UserError: no such entry, an entry to be fetched by hand, no connection, a truncated file,
            or one whose hash is not the registry's; the message has both hashes.
    """
    path = registry_file()
    entries = read_registry(path)
    if name not in entries:
        own = f"; `{name}` needs no download" if name in OWN else ""
        raise UserError(f"{path}: no entry `{name}`; there are {join_some(entries, most=20)}{own}")
    entry = entries[name]
    file = folder / entry.file if entry.file else None
    if file is not None and file.exists():
        _verify(file, entry)
        _say(f"{file} was there already", file, entry, name, path)
        return file
    if file is None or entry.url is None:
        where = f" Put it at {file}; `hclmp fetch {name}` then checks it." if file else ""
        raise UserError(f"`{name}` has to be fetched by hand. {entry.how}{where}")
    _download(entry.url, file, entry)
    _say(f"{entry.url} -> {file}", file, entry, name, path)
    return file


def _download(url: str, file: Path, entry: Download) -> None:
    """Download to a temporary name, verify, then rename."""
    from pooch import HTTPDownloader

    try:
        with atomic_write(file) as temporary:
            HTTPDownloader(timeout=TIMEOUT)(url, str(temporary), None)
            _verify(temporary, entry, called=url)
    except OSError as error:  # the exceptions of requests are these too
        raise UserError(
            f"{url}: cannot be downloaded to {file}: {error}. Nothing was kept; try again, or "
            f"fetch it with a browser and put it there."
        ) from error


def _verify(file: Path, entry: Download, *, called: str = "") -> None:
    """Refuse a file whose size or hash is not the registry's, as far as it knows them."""
    size, digest = file.stat().st_size, sha256(file)
    if entry.sha256 not in (None, digest) or entry.size not in (None, size):
        short = " It is too short: the download was cut off." if size < (entry.size or 0) else ""
        end = "Nothing was kept." if called else "Move it away to download it again."
        raise UserError(
            f"{called or file}: not the file of the registry. It has sha256 {digest} and {size} "
            f"bytes; the registry says sha256 {entry.sha256 or 'unknown'} and "
            f"{entry.size or 'unknown'} bytes.{short} {end}"
        )


def _say(what: str, file: Path, entry: Download, name: str, registry: Path) -> None:
    """Log what was downloaded, and whether it was verified."""
    if entry.sha256:
        log.info("%s: sha256 verified (%s)", what, entry.sha256)
        return
    log.info(
        "%s: NOT VERIFIED, the registry has no hash of it. Got sha256 %s and %d bytes: record them "
        "as `sha256` and `size` of `%s` in %s, so that every later download is verified.",
        *(what, sha256(file), file.stat().st_size, name, registry),
    )
