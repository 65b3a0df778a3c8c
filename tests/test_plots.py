"""The pictures: whole, reproducible, and drawn on the right axes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from hclmp.data.tables import Property
from hclmp.evaluation import plots
from hclmp.evaluation.metrics import by_system, standardised_error, system_errors
from hclmp.evaluation.styles import STYLES, variant_styles
from tests.made_up.predictions import predictions

SPECTRUM = tuple(Property(f"a_{e}", "1e5/cm", "log10", e) for e in (1.4, 1.8, 2.2))
MIXED = (Property("gap", "eV"), Property("modulus", "GPa", "log10"), Property("$ per kg$"))
Draw = Callable[[Path], None]


def of_systems(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return system_errors(by_system(frames, MIXED), list(frames))


def history(epochs: int, *, best: int) -> pd.DataFrame:
    """Training of two members, with the lowest validation error at epoch ``best``."""
    epoch = np.arange(1, epochs + 1)
    columns = {
        "stage": "selection",
        "epoch": epoch,
        "loss": 1 / epoch,
        "validation_mae": 0.1 + np.abs(epoch - best),
    }
    return pd.concat([pd.DataFrame({"member": m, **columns}) for m in (0, 1)])


@pytest.fixture
def generator(tmp_path: Path) -> dict[str, Path]:
    """The tables of a trained generator; two materials have the same formula."""
    energy = np.linspace(-8, 8, 33)
    dos = np.exp(-((energy - 2) ** 2))
    columns = {"energy": energy, "dos": dos, "generated_mean": 0.9 * dos}
    blocks = [pd.DataFrame({"formula": f, **columns}) for f in ("Fe2O3", "Fe2O3", "Mn0.5V0.5")]
    metrics = {
        "mae": {"generator": 0.12, "training_mean": 0.34},
        "unit": "states/eV/cation",
        "energy_unit": "eV",
        "simulated": True,
    }
    epochs = pd.DataFrame(
        {
            "stage": ["selection", "selection", "selection", "refit"],
            "epoch": [1, 2, 3, 1],
            "critic_loss": [-3.0, -2.0, -1.0, -9.0],
            "generator_loss": [0.1, 0.2, 0.3, 0.9],
            "mean_error": [0.9, 0.8, 0.7, 0.1],
            "energy_score": [0.8, 0.6, 0.4, 0.1],
            "validation_energy_score": [0.6, 0.4, 0.5, None],
            "validation_mae": [0.5, 0.4, 0.3, None],
        }
    )
    files = {n: tmp_path / n for n in ("examples.csv", "metrics.json", "history.csv")}
    pd.concat(blocks).to_csv(files["examples.csv"], index=False)
    files["metrics.json"].write_text(json.dumps(metrics))
    epochs.to_csv(files["history.csv"], index=False)
    return files


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were drawn, to look into."""
    figures: list[Figure] = []

    class Kept(Figure):
        def savefig(self, *args: object, **kwargs: object) -> None:
            figures.append(self)
            super().savefig(*args, **kwargs)

    monkeypatch.setattr(plots, "Figure", Kept)
    return figures


def draw_all(generator: dict[str, Path]) -> dict[str, Draw]:
    """Every function, on small tables."""
    frame = predictions(MIXED)
    frames = {"hclmp": frame, "mean": predictions(MIXED, error=1.0)}
    histories = {"hclmp": {"fold-1": history(9, best=4), "fold-2": history(9, best=5)}}
    return {
        "parity": lambda p: plots.parity(p, frame, MIXED, "hclmp", simulated=True),
        "mae_by_property": lambda p: plots.mae_by_property(p, frames, MIXED, simulated=True),
        "mae_by_system": lambda p: plots.mae_by_system(p, of_systems(frames), simulated=True),
        "loss_curves": lambda p: plots.loss_curves(p, histories, simulated=True),
        "correlation": lambda p: plots.correlation(
            p, frame, [np.eye(3)], MIXED, "hclmp", simulated=True
        ),
        "generated_dos": lambda p: plots.generated_dos(
            p, generator["examples.csv"], generator["metrics.json"]
        ),
        "gan_curves": lambda p: plots.gan_curves(p, generator["history.csv"]),
    }


NAMES = list(draw_all({}))
# that data are simulated
TOLD = {
    "parity",
    "mae_by_property",
    "mae_by_system",
    "loss_curves",
    "correlation",
    "generated_dos",
}


@pytest.mark.parametrize("name", NAMES)
def test_writes_one_png_with_equal_bytes_each_time(
    name: str, tmp_path: Path, generator: dict[str, Path], drawn: list[Figure]
) -> None:
    draw = draw_all(generator)[name]
    folder = tmp_path / "plots"
    draw(folder / "a.png")
    draw(folder / "b.png")
    assert sorted(f.name for f in folder.iterdir()) == ["a.png", "b.png"]
    assert (folder / "a.png").read_bytes() == (folder / "b.png").read_bytes()
    with Image.open(folder / "a.png") as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) > 200
        assert max(image.size) < 2000
        assert set(image.info) == {"dpi"}  # no date, no version
        assert len(image.convert("L").getcolors() or []) > 20
    assert ("(simulated data)" in _texts(drawn[0])) == (name in TOLD)


def test_parity_uses_log_axes_for_log10_alone(tmp_path: Path, drawn: list[Figure]) -> None:
    plots.parity(tmp_path / "a.png", predictions(MIXED), MIXED, "hclmp", simulated=False)
    scales = [(ax.get_xscale(), ax.get_yscale()) for ax in drawn[0].axes]
    assert scales == [("linear", "linear"), ("log", "log"), ("linear", "linear")]
    assert [ax.get_xlabel() for ax in drawn[0].axes] == ["eV", "GPa", ""]
    assert "simulated" not in _texts(drawn[0])


def test_parity_shows_property_units_and_coordinate(tmp_path: Path, drawn: list[Figure]) -> None:
    frame = predictions(SPECTRUM)
    plots.parity(tmp_path / "a.png", frame, SPECTRUM, "ridge", simulated=False)
    first = frame[frame["property"] == "a_1.4"]
    ax = drawn[0].axes[0]
    points = np.asarray(ax.collections[-1].get_offsets())
    np.testing.assert_allclose(points, first[["y_true", "y_pred"]])
    assert ax.get_title() == "a_1.4 at 1.4"
    mae = (first["t_pred"] - first["t_true"]).abs().mean()
    assert f"MAE {mae:.3g} decades" in ax.texts[0].get_text()
    assert "measured (1e5/cm)" in _texts(drawn[0])


def test_parity_with_one_sample_per_property(tmp_path: Path, drawn: list[Figure]) -> None:
    frame = predictions(MIXED, systems=1, each=1)
    exact = frame.assign(y_pred=frame["y_true"], t_pred=frame["t_true"])
    for table in (frame, exact):
        plots.parity(tmp_path / "a.png", table, MIXED, "hclmp", simulated=False)
    for ax, prop in zip(drawn[1].axes, MIXED, strict=True):
        low, high = ax.get_xlim()
        value = float(exact.loc[exact["property"] == prop.name, "y_true"].iloc[0])
        assert low < value < high
        assert "R² –" in ax.texts[0].get_text()


@pytest.mark.parametrize(
    ("values", "fewest"), [((50.0, 300.0), 3), ((0.2, 9.0), 2), ((1e-6, 1e6), 3)]
)
def test_log_axes_have_ticks(
    values: tuple[float, float], fewest: int, tmp_path: Path, drawn: list[Figure]
) -> None:
    prop = Property("modulus", "GPa", "log10")
    frame = predictions((prop,), systems=1, each=2)
    frame = frame.assign(y_true=values, y_pred=values, t_true=np.log10(values))
    plots.parity(tmp_path / "a.png", frame, (prop,), "hclmp", simulated=False)
    axis = drawn[0].axes[0].xaxis
    low, high = drawn[0].axes[0].get_xlim()
    assert fewest <= sum(low <= tick <= high for tick in axis.get_majorticklocs()) <= 6


def test_parity_of_many_properties_and_points(tmp_path: Path, drawn: list[Figure]) -> None:
    many = tuple(Property(f"p{i}", "K") for i in range(14))
    frame = predictions(many, systems=3, each=140)
    plots.parity(tmp_path / "a.png", frame, many, "hclmp", simulated=False)
    assert len(drawn[0].axes) == 12
    assert "2 more properties are not shown" in _texts(drawn[0])
    assert len(drawn[0].axes[0].collections) == 1  # no error bars


def test_mae_by_property_against_coordinate(tmp_path: Path, drawn: list[Figure]) -> None:
    backwards = SPECTRUM[::-1]
    frame = predictions(backwards)
    plots.mae_by_property(tmp_path / "a.png", {"hclmp": frame}, backwards, simulated=False)
    (line,) = drawn[0].axes[0].lines
    np.testing.assert_array_equal(line.get_xdata(), [1.4, 1.8, 2.2])
    errors = standardised_error(frame).groupby(frame["property"]).mean()
    np.testing.assert_allclose(line.get_ydata(), errors[[p.name for p in SPECTRUM]])


def test_mae_by_system_is_sorted_by_the_first_variant(tmp_path: Path, drawn: list[Figure]) -> None:
    frames = {"mean": predictions(MIXED, error=1.0), "hclmp": predictions(MIXED)}
    plots.mae_by_system(tmp_path / "a.png", of_systems(frames), simulated=False)
    ax = drawn[0].axes[0]
    assert len(ax.get_yticklabels()) == 4
    first = np.asarray(ax.lines[0].get_xdata(), dtype=float)
    assert (np.diff(first) >= 0).all()
    errors = standardised_error(frames["mean"]).groupby(frames["mean"]["system"]).mean()
    np.testing.assert_allclose(first, np.sort(errors))


def test_sixty_systems_become_a_distribution(tmp_path: Path, drawn: list[Figure]) -> None:
    frames = {
        v: predictions(MIXED, systems=60, each=2, error=e) for v, e in (("hclmp", 0.3), ("new", 1))
    }
    plots.mae_by_system(tmp_path / "a.png", of_systems(frames), simulated=False)
    ax = drawn[0].axes[0]
    assert "60 systems" in ax.get_ylabel()
    assert [len(np.asarray(line.get_xdata())) for line in ax.lines] == [60, 60]
    assert np.asarray(ax.lines[0].get_ydata())[-1] == 1.0


def test_loss_curves_mark_the_best_epoch(tmp_path: Path, drawn: list[Figure]) -> None:
    histories = {
        v: {"fold-1": history(9, best=4), "fold-2": history(1, best=1)} for v in ("hclmp", "new")
    }
    plots.loss_curves(tmp_path / "a.png", histories, simulated=False)
    axes = drawn[0].axes
    assert [ax.get_title() for ax in axes[::2]] == list(histories)
    assert len(axes[0].lines) == 4  # two folds of two members
    marked = [line for line in axes[1].lines if line.get_marker() == "o"]
    assert [np.asarray(m.get_xdata()).tolist() for m in marked] == [[4], [4], [1], [1]]


def test_correlation_shows_learned_and_measured(tmp_path: Path, drawn: list[Figure]) -> None:
    frame = predictions(MIXED)
    covariances = [np.diag([1.0, 4.0, 9.0]), np.full((3, 3), 0.5) + 0.5 * np.eye(3)]
    plots.correlation(tmp_path / "a.png", frame, covariances, MIXED, "hclmp", simulated=True)
    learned, residuals, labels = (np.asarray(ax.images[0].get_array()) for ax in drawn[0].axes[:3])
    np.testing.assert_allclose(learned, np.full((3, 3), 0.25) + 0.75 * np.eye(3))
    t = {c: frame[c].to_numpy().reshape(3, -1) for c in ("t_true", "t_pred")}
    np.testing.assert_allclose(labels, np.corrcoef(t["t_true"]))
    np.testing.assert_allclose(residuals, np.corrcoef(t["t_pred"] - t["t_true"]))
    assert {ax.images[0].get_clim() for ax in drawn[0].axes[:3]} == {(-1, 1)}


@pytest.mark.parametrize(("covariances", "maps"), [([], 2), ([np.eye(1)], 3)])
def test_correlation_of_one_property(
    covariances: list[plots.Floats], maps: int, tmp_path: Path, drawn: list[Figure]
) -> None:
    frame = predictions(MIXED[:1])
    plots.correlation(tmp_path / "a.png", frame, covariances, MIXED[:1], "hclmp", simulated=True)
    shown = [ax.images[0].get_array() for ax in drawn[0].axes if ax.images]
    np.testing.assert_allclose(np.stack(shown), np.ones((maps, 1, 1)))


def test_generated_dos_has_a_panel_per_material(
    tmp_path: Path, generator: dict[str, Path], drawn: list[Figure]
) -> None:
    plots.generated_dos(tmp_path / "a.png", generator["examples.csv"], generator["metrics.json"])
    titles = [ax.get_title() for ax in drawn[0].axes]
    assert titles == ["Fe$_{2}$O$_{3}$", "Fe$_{2}$O$_{3}$", "Mn$_{0.5}$V$_{0.5}$"]
    assert drawn[0].axes[0].get_xlabel() == "energy (eV)"
    text = _texts(drawn[0])
    assert all(part in text for part in ("0.12", "0.34", "DOS (states/eV/cation)"))


@pytest.mark.parametrize("critic", [True, False])
def test_gan_curves_mark_the_best_epoch(
    tmp_path: Path, generator: dict[str, Path], drawn: list[Figure], critic: bool
) -> None:
    if not critic:
        history = pd.read_csv(generator["history.csv"])
        lost = history.drop(columns=["critic_loss", "generator_loss"])
        lost.to_csv(generator["history.csv"], index=False)
    plots.gan_curves(tmp_path / "a.png", generator["history.csv"])
    assert ("critic" in _texts(drawn[0])) == critic
    for ax in drawn[0].axes:
        best = next(line for line in ax.lines if line.get_label() == "best epoch")
        assert np.asarray(best.get_xdata()).tolist() == [2, 2]


def test_a_variant_looks_the_same_whatever_stands_beside_it() -> None:
    together = variant_styles(["new", "hclmp_t", "mean"])
    assert together["new"] == variant_styles(["new"])["new"]
    assert together["mean"] == variant_styles(["mean"])["mean"]
    assert len(set(variant_styles([*STYLES, *"abcdef"]).values())) == len(STYLES) + 6


def _texts(figure: Figure) -> str:
    """All that stands in a figure outside its panels, and their titles."""
    return "\n".join([t.get_text() for t in figure.texts] + [ax.get_title() for ax in figure.axes])
