"""Where a result comes from: hashes of data, source and configuration."""

import ast
import datetime
import functools
import hashlib
import json
import pkgutil
import platform
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hclmp import __version__
from hclmp.errors import UserError
from hclmp.files import write_json

PACKAGE = Path(__file__).parent
METADATA_KEY = b"hclmp"  # of a Parquet file
EMBEDDED = r'<script type="application/json" id="hclmp">(.*?)</script>'  # in a page
ASSETS = {".css", ".html", ".js"}  # what a page is made of, beside the modules that make it
Provenance = dict[str, Any]


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of(value: object) -> str:
    """SHA-256 of a JSON-like value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The keys of what is wanted that were found with another JSON-like value, or not at all."""
    return [key for key in wanted if hash_of(found.get(key)) != hash_of(wanted[key])]


def source_files(step: str) -> list[Path]:
    """The modules of the package that a step imports, directly or not, found without running them.

    With a package come the templates, styles and scripts that lie in its folder. ``step`` is a
    module of ``hclmp.pipeline.steps``.
    """
    found: set[Path] = set()
    todo = [PACKAGE / "pipeline/steps" / name for name in (f"{step}.py", "__init__.py")]
    while todo:
        module = todo.pop()
        if module not in found:
            found.add(module)
            todo += _imported(module)
    packages = [module.parent for module in found if module.name == "__init__.py"]
    assets = {f for folder in packages for f in folder.iterdir() if f.suffix in ASSETS}
    return sorted(found | assets)


@functools.cache
def _imported(path: Path) -> tuple[Path, ...]:
    """The package's own modules named by import statements anywhere in a module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and (package := _imported_by_name(node)):
            folder = PACKAGE.joinpath(*package.split(".")[1:])
            names |= {f"{package}.{found.name}" for found in pkgutil.iter_modules([str(folder)])}
    files: set[Path] = set()
    for name in names:
        parts = name.split(".")
        if parts[0] == "hclmp":
            # importing a.b.c runs a and a.b as well
            for depth in range(1, len(parts) + 1):
                base = PACKAGE.joinpath(*parts[1:depth])
                files |= {f for f in (base.with_suffix(".py"), base / "__init__.py") if f.is_file()}
    return tuple(sorted(files))


def _imported_by_name(call: ast.Call) -> str | None:
    """The package of ``import_module(f"package.{name}")``, of which any module may be imported."""
    match call:
        case ast.Call(
            func=ast.Name("import_module"),
            args=[ast.JoinedStr([ast.Constant(str(package)), ast.FormattedValue()])],
        ):
            return package.removesuffix(".")
    return None


@functools.cache
def source_hash(step: str) -> str:
    """SHA-256 over the names and bytes of the files that `source_files` finds."""
    digest = hashlib.sha256()
    for path in source_files(step):
        digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def provenance(step: str, *, config: Mapping[str, Any], inputs: Mapping[str, Path]) -> Provenance:
    """What every result carries: equal inputs give equal bytes, so nothing volatile is in it.

    ``config`` is the part of the configuration that determines the result, seed included.
    """
    return {
        "hclmp": __version__,
        "step": step,
        "config": dict(config),
        "inputs": {name: sha256(path) for name, path in sorted(inputs.items())},
        "source": source_hash(step),
    }


def read_provenance(path: Path) -> Provenance:
    """The provenance that a result carries.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file: not all results are here")
    import pyarrow as pa
    from safetensors import SafetensorError

    try:
        return dict(_about(path)["provenance"])
    # OSError: Arrow's word for a footer that it cannot decode
    except (pa.ArrowException, SafetensorError, KeyError, OSError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged: it does not say where it comes from") from error


def _about(path: Path) -> Any:
    """What a file says of itself, whatever its kind."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return json.loads((pq.read_schema(path).metadata or {})[METADATA_KEY])
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            return json.loads(file.metadata()["hclmp"])
    if path.suffix == ".html":
        (text,) = re.findall(EMBEDDED, path.read_text(), flags=re.DOTALL)
        return json.loads(text)
    return json.loads(path.read_text())


@contextmanager
def run_record(name: str) -> Iterator[None]:
    """Note date, host, duration and commit of a run in ``logs/runs/``; no result depends on it."""
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    yield
    record = {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - clock, 2),
        "host": platform.node(),
        "python": platform.python_version(),
        "commit": _commit(),
    }
    write_json(Path("logs/runs") / f"{name}.json", record)


def _commit() -> str | None:
    """The commit of the package's checkout, where it is one."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(PACKAGE), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
