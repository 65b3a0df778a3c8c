"""The layout of data/ and results/: the one place that knows which step writes which file.

Rules and users name steps, folds and variants; the files follow. All paths are relative to the
working directory.
"""

from dataclasses import dataclass
from pathlib import Path

CONFIG = Path("results/config.json")
TARGETS = Path("data/processed/targets.parquet")
TARGETS_RECORD = Path("data/processed/targets.json")
DOS = Path("data/processed/dos.parquet")
DOS_RECORD = Path("data/processed/dos.json")
METRICS = Path("results/metrics")
REPORT = Path("results/report.html")
FINAL = Path("results/final")


def _scoped(folder: str, fold: str | None, name: str) -> Path:
    return Path("results") / folder / (fold or "") / name


@dataclass(frozen=True)
class Gan:
    """Files of the generator; ``fold`` only with ``dos.held_out: drop``."""

    fold: str | None = None

    @property
    def generator(self) -> Path:
        return _scoped("gan", self.fold, "generator.safetensors")

    @property
    def metrics(self) -> Path:
        return _scoped("gan", self.fold, "metrics.json")

    @property
    def history(self) -> Path:
        return _scoped("gan", self.fold, "history.csv")

    @property
    def examples(self) -> Path:
        return _scoped("gan", self.fold, "examples.csv")


@dataclass(frozen=True)
class Encoder:
    """Files of the encoder pretrained on DOS; ``fold`` only with ``dos.held_out: drop``."""

    fold: str | None = None

    @property
    def weights(self) -> Path:
        return _scoped("encoder", self.fold, "encoder.safetensors")

    @property
    def history(self) -> Path:
        return _scoped("encoder", self.fold, "history.csv")


def features(fold: str | None = None) -> Path:
    """The features file; ``fold`` only with ``dos.held_out: drop``."""
    return _scoped("features", fold, "features.safetensors")


@dataclass(frozen=True)
class Trained:
    """Files of one variant on one fold."""

    variant: str
    fold: str

    @property
    def folder(self) -> Path:
        return Path("results/models") / self.variant / self.fold

    @property
    def weights(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def settings(self) -> Path:
        return self.folder / "model.json"

    @property
    def history(self) -> Path:
        return self.folder / "history.csv"

    @property
    def predictions(self) -> Path:
        return Path("results/predictions") / self.variant / f"{self.fold}.parquet"


@dataclass(frozen=True)
class Final:
    """Files of a final model: a folder that can be taken elsewhere."""

    folder: Path = FINAL

    @property
    def about(self) -> Path:
        return self.folder / "model.json"

    @property
    def weights(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def elements(self) -> Path:
        return self.folder / "elements.safetensors"

    @property
    def generator(self) -> Path:
        """Only of a model with transfer."""
        return self.folder / "generator.safetensors"

    @property
    def training(self) -> Path:
        """The targets table that it was trained on, byte for byte."""
        return self.folder / "training.parquet"

    @property
    def history(self) -> Path:
        return self.folder / "history.csv"
