"""The pictures beside the metrics: a PNG per function, equal bytes for equal input.

``path`` is the PNG; ``frame`` the predictions of a variant on all folds, columns as in
``PREDICTION_COLUMNS``; ``frames`` those of several; ``simulated`` whether the labels come from a
simulation. A variant looks the same everywhere: neural ones saturated, baselines muted.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from sklearn.metrics import r2_score

from hclmp.data.tables import Floats, Property
from hclmp.evaluation.metrics import correlations, predicted_std, standardised_error
from hclmp.evaluation.styles import STYLES, variant_styles
from hclmp.files import atomic_write

DPI = 120
MOST_COLUMNS, MOST_PANELS = 5, 12
MOST_ERROR_BARS = 400  # points in a panel; with more, the bars hide each other
MOST_SYSTEM_ROWS = 40
MOST_CELL_VALUES = 10  # properties of a correlation whose numbers stand in the cells
STANDARDISED = "standardised MAE (training std)"
DARK, PALE = "#333333", "#BBBBBB"
Keywords = dict[str, Any]  # of matplotlib, whose stubs want no ``object``
RC: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "figure.titlesize": 10,
    "figure.labelsize": 10,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.formatter.limits": (-3, 4),
    "axes.formatter.use_mathtext": True,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 5,
}


def parity(
    path: Path,
    frame: pd.DataFrame,
    properties: Sequence[Property],
    variant: str,
    *,
    simulated: bool,
) -> None:
    """Predicted against measured values in property units, one sigma as bars: a panel a property.

    Of more than twelve properties, the first twelve.
    """
    shown = properties[:MOST_PANELS]
    rows = math.ceil(len(shown) / MOST_COLUMNS)
    columns = math.ceil(len(shown) / rows)
    units = {p.unit for p in shown}
    unit = shown[0].unit if len(units) == 1 else ""
    title = f"{variant}, held-out samples"
    if len(shown) < len(properties):
        title += f"; {len(properties) - len(shown)} more properties are not shown"
    with _figure(path, max(2.3 * columns + 0.4, 4.5), 2.4 * rows + 0.7) as figure:
        for i, prop in enumerate(shown):
            ax = figure.add_subplot(rows, columns, i + 1)
            _parity_panel(ax, frame[frame["property"] == prop.name], prop, variant)
            if len(units) > 1:
                ax.set(xlabel=_plain(prop.unit), ylabel=_plain(prop.unit))
        figure.supxlabel(_with_unit("simulated" if simulated else "measured", unit))
        figure.supylabel(_with_unit("predicted", unit))
        figure.suptitle(_title(title, simulated))


def mae_by_property(
    path: Path,
    frames: Mapping[str, pd.DataFrame],
    properties: Sequence[Property],
    *,
    simulated: bool,
) -> None:
    """Standardised mean absolute error of each property, by variant.

    Against the coordinate where every property has one, else a row of dots per property.
    """
    errors = pd.DataFrame(
        {v: standardised_error(f).groupby(f["property"]).mean() for v, f in frames.items()}
    ).reindex([p.name for p in properties])
    coordinates = [p.coordinate for p in properties if p.coordinate is not None]
    lines = len(coordinates) == len(properties)
    height = 4.2 if lines else 1.5 + 0.24 * max(len(errors), len(frames))
    with _figure(path, 7.5, height) as figure:
        ax = figure.subplots()
        if lines:
            errors = errors.set_axis(coordinates).sort_index()
            for variant, (colour, marker) in variant_styles(frames).items():
                ax.plot(errors[variant], marker=marker, color=colour, label=variant)
            ax.set_ylim(bottom=0)
            ax.set(xlabel="coordinate of the property", ylabel=STANDARDISED)
        else:
            _dots(ax, errors.iloc[::-1])
        ax.set_title(_title("error by property, held-out samples", simulated), fontsize=10)
        figure.legend(loc="outside right upper")


def mae_by_system(path: Path, errors: pd.DataFrame, *, simulated: bool) -> None:
    """Standardised mean absolute error of each held-out system (a row), by variant (a column).

    Up to forty systems get a row of dots each, sorted by the first variant's error; of more, the
    cumulated distribution is shown.
    """
    rows = len(errors) <= MOST_SYSTEM_ROWS
    with _figure(path, 7.5, 1.5 + 0.2 * max(errors.shape) if rows else 4.2) as figure:
        ax = figure.subplots()
        if rows:
            _dots(ax, errors.sort_values(errors.columns[0], kind="stable"))
        else:
            share = np.arange(1, len(errors) + 1) / len(errors)
            for variant, (colour, marker) in variant_styles(map(str, errors)).items():
                style: Keywords = {
                    "color": colour,
                    "marker": marker,
                    "markevery": len(errors) // 12,
                }
                ax.step(np.sort(errors[variant]), share, where="post", label=variant, **style)
            ax.set_xlim(left=0)
            ax.set_ylim(0, 1.02)
            ax.set(xlabel=STANDARDISED, ylabel=f"share of the {len(errors)} systems")
        ax.set_title(_title("error by system, held-out samples", simulated), fontsize=10)
        figure.legend(loc="outside right upper")


def loss_curves(
    path: Path, histories: Mapping[str, Mapping[str, pd.DataFrame]], *, simulated: bool
) -> None:
    """Training loss, and below it validation error, against epoch: a column per variant.

    ``histories`` are, by variant and fold, one row per ``stage``, ``member`` and ``epoch``, with
    ``loss`` and the standardised ``validation_mae``. Only the first stage has validation; it is
    shown.
    """
    columns = min(len(histories), 4)
    blocks = math.ceil(len(histories) / columns)
    with _figure(path, max(3.1 * columns + 0.6, 4.2), 4.4 * blocks + 0.4) as figure:
        for i, (variant, (colour, _)) in enumerate(variant_styles(histories).items()):
            place = 2 * columns * (i // columns) + i % columns + 1
            top = figure.add_subplot(2 * blocks, columns, place)
            bottom = figure.add_subplot(2 * blocks, columns, place + columns, sharex=top)
            line: Keywords = {"color": colour, "lw": 0.8, "alpha": 0.7}
            for history in histories[variant].values():
                for _, member in history.query("stage == 'selection'").groupby("member"):
                    best = member.nsmallest(1, "validation_mae")
                    line["marker"] = _marker(member)
                    top.plot(member["epoch"], member["loss"], **line)
                    bottom.plot(member["epoch"], member["validation_mae"], **line)
                    bottom.plot(best["epoch"], best["validation_mae"], "o", color=DARK, ms=4)
            top.set(title=variant, ylabel="training loss")
            bottom.set(xlabel="epoch", ylabel="validation MAE (standardised)")
            bottom.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
        title = "a line per fold and member; dots mark the best epochs"
        figure.suptitle(_title(title, simulated))


def correlation(
    path: Path,
    frame: pd.DataFrame,
    covariances: Sequence[Floats],
    properties: Sequence[Property],
    variant: str,
    *,
    simulated: bool,
) -> None:
    """Correlation between properties: as learned, of the residuals, and of the labels.

    ``covariances`` are [L, L] per fold, in the transformed space; if empty, nothing learned is
    shown.
    """
    names = [p.name for p in properties]
    found = correlations(frame, covariances, properties)
    origin = f"mean of {len(covariances)} folds" if len(covariances) > 1 else "one fold"
    titles = {
        "learned": f"learned by {variant},\n{origin}",
        "residuals": f"residuals of {variant},\nheld-out samples",
        "labels": "labels,\nheld-out samples",
    }
    maps = {titles[kind]: values for kind, values in found.items()}
    side = min(max(0.36 * len(names), 2.2), 5.0)
    margin = 0.4 + 0.065 * max(map(len, names))  # for the names, in inches
    with _figure(path, side * len(maps) + margin + 1.0, side + margin + 0.4) as figure:
        axes = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
        for ax, (title, values) in zip(axes, maps.items(), strict=True):
            image = _heat_map(ax, values, [_plain(n) for n in names])
            ax.set_title(title)
        figure.suptitle(_title("correlation between properties", simulated))
        figure.colorbar(image, ax=list(axes), label="correlation", shrink=0.7, pad=0.015)


def generated_dos(path: Path, examples: Path, metrics: Path) -> None:
    """True and generated density of states (DOS) of some materials of held-out systems.

    Args:
        path: the PNG.
        examples: CSV of ``formula, energy, dos, generated_mean``, a block of rising energies per
            material.
        metrics: JSON of the generator's metrics, with the units of DOS and energy.
    """
    about, blocks = json.loads(metrics.read_text()), materials_of(pd.read_csv(examples))
    columns = min(3, len(blocks))
    rows = math.ceil(len(blocks) / columns)
    mae, unit, colour = about["mae"], about["unit"], STYLES["hclmp_t"][0]
    title = (
        f"DOS of held-out systems: MAE of the generator {mae['generator']:.3g}, "
        f"of the training mean {mae['training_mean']:.3g} {_plain(unit)}"
    )
    with _figure(path, max(3.5 * columns + 0.5, 7.5), 2.2 * rows + 1.1) as figure:
        for i, block in enumerate(blocks):
            energy, mean = block["energy"], block["generated_mean"]
            ax = figure.add_subplot(rows, columns, i + 1)
            ax.axvline(0, color=PALE, lw=0.8, zorder=0)
            ax.plot(energy, block["dos"], color=DARK, lw=1, label="true")
            ax.plot(energy, mean, color=colour, label="generated, mean of draws")
            ax.margins(x=0)
            ax.set_ylim(bottom=0)
            ax.set_title(re.sub(r"(\d+(?:\.\d+)?)", r"$_{\1}$", str(block["formula"].iloc[0])))
            if i + columns >= len(blocks):
                ax.set_xlabel(_with_unit("energy", about["energy_unit"]))
        figure.supylabel(_with_unit("DOS", unit))
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        figure.suptitle(_title(title, about["simulated"]))


def materials_of(table: pd.DataFrame) -> list[pd.DataFrame]:
    """The table of examples, a block of rising energies per material, cut into these blocks."""
    return [block for _, block in table.groupby((table["energy"].diff() < 0).cumsum())]


def gan_curves(path: Path, history: Path) -> None:
    """Training of the generator against epoch: error of the mean, energy score, critic if any.

    ``history`` is a CSV with a row per stage and epoch; errors and scores are of scaled DOS. Only
    the first stage has validation; it is shown.
    """
    table = pd.read_csv(history).query("stage == 'selection'")
    best = table.nsmallest(1, "validation_energy_score")["epoch"].iloc[0]
    neural, other = STYLES["hclmp_t"][0], STYLES["hclmp"][0]
    error = "MAE of the mean of draws"
    panels = {
        "training (scaled DOS)": {
            "energy_score": ("energy score", neural),
            "mean_error": (error, other),
        },
        "validation (scaled DOS)": {
            "validation_energy_score": ("energy score", neural),
            "validation_mae": (error, other),
        },
    }
    if "critic_loss" in table:
        lost = {"critic_loss": ("critic", DARK), "generator_loss": ("generator", neural)}
        panels = {"what the critic says": lost, **panels}
    with _figure(path, 3.5 * len(panels), 3.4) as figure:
        for ax, (title, lines) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
            for column, (label, colour) in lines.items():
                line: Keywords = {"color": colour, "label": label, "marker": _marker(table)}
                ax.plot(table["epoch"], table[column], **line)
            ax.axvline(best, color=PALE, lw=0.8, zorder=0, label="best epoch")
            ax.set(title=title, xlabel="epoch")
            ax.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
            ax.legend(fontsize=8)
        figure.suptitle("training of the DOS generator")


@contextmanager
def _figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of that size in inches, written to ``path`` at the end of the block."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def _marker(history: pd.DataFrame) -> str:
    """A line through one epoch alone would be invisible."""
    return "." if len(history) == 1 else ""


def _parity_panel(ax: Axes, frame: pd.DataFrame, prop: Property, variant: str) -> None:
    """One property: points, identity line, and mean absolute error and R2 of the learned values."""
    true, predicted, t = (frame[c].to_numpy() for c in ("y_true", "y_pred", "t_pred"))
    std = predicted_std(frame).to_numpy()
    few = len(frame) <= MOST_ERROR_BARS
    if few:
        ax.vlines(true, prop.inverse(t - std), prop.inverse(t + std), color=PALE, lw=0.5)
    size, alpha = (12, 0.6) if few else (5, 0.35)
    colour = variant_styles([variant])[variant][0]
    ax.scatter(true, predicted, s=size, alpha=alpha, color=colour, linewidths=0, zorder=2)
    low, high = _limits(np.concatenate([true, predicted]), prop)
    ax.plot([low, high], [low, high], color=DARK, lw=0.8, zorder=3)
    if prop.transform == "log10":
        ax.set(xscale="log", yscale="log")
    ax.set(xlim=(low, high), ylim=(low, high), box_aspect=1)
    for axis in (ax.xaxis, ax.yaxis):
        _few_ticks(axis, math.log10(high / low) if prop.transform == "log10" else 0)
    place = "" if prop.coordinate is None else f" at {prop.coordinate:g}"
    ax.set_title(_plain(prop.name) + place)
    learned = frame["t_true"].to_numpy()
    r2 = f"{r2_score(learned, t):.2f}" if len(frame) > 1 else "–"
    unit = f" {prop.learned_unit}" if prop.transform == "log10" else ""
    text = f"MAE {np.abs(t - learned).mean():.3g}{unit}\nR² {r2}"
    ax.text(0.04, 0.96, text, transform=ax.transAxes, va="top", fontsize=8, zorder=4)


def _limits(values: Floats, prop: Property) -> tuple[float, float]:
    """Ends of both axes, in property units: the finite values with a margin."""
    with np.errstate(divide="ignore"):
        t = prop.forward(values)
    t = t[np.isfinite(t)]
    low, high = float(t.min()), float(t.max())
    margin = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    ends = prop.inverse(np.array([low - margin, high + margin]))
    return float(ends[0]), float(ends[1])


def _few_ticks(axis: Axis, decades: float) -> None:
    """About four ticks, also on a logarithmic axis of any number of decades (0: a linear axis)."""
    axis.set_minor_locator(ticker.NullLocator())
    if decades < 1:
        axis.set_major_locator(ticker.MaxNLocator(4))
        axis.set_major_formatter(ticker.ScalarFormatter())
    elif decades < 2.5:
        axis.set_major_locator(ticker.LogLocator(subs=(1, 3)))
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axis.set_major_locator(ticker.LogLocator(numticks=5))


def _dots(ax: Axes, errors: pd.DataFrame) -> None:
    """A row of dots per row of ``errors``, from the bottom up; the first column lies on top."""
    rows = np.arange(len(errors))
    for i, (variant, (colour, marker)) in enumerate(variant_styles(errors.columns).items()):
        dot: Keywords = {"color": colour, "mec": "white", "mew": 0.4, "ms": 5.5, "label": variant}
        ax.plot(errors[variant], rows, marker, zorder=3 - 0.01 * i, **dot)
    ax.set_yticks(rows, [_plain(str(name)) for name in errors.index])
    ax.set_ylim(-0.7, len(errors) - 0.3)
    ax.set_xlim(left=0)
    ax.grid(axis="y", color="#EEEEEE", lw=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(STANDARDISED)


def _heat_map(ax: Axes, values: Floats, names: Sequence[str]) -> Any:
    """An [L, L] correlation on the scale -1 to 1; undefined cells grey."""
    colours = mpl.colormaps["RdBu_r"].with_extremes(bad="#DDDDDD")
    image = ax.imshow(values, cmap=colours, vmin=-1, vmax=1)
    ticks = range(0, len(names), math.ceil(len(names) / 30))
    size = 8 if len(names) <= 15 else 6
    ax.set_xticks(ticks, [names[i] for i in ticks], rotation=90, fontsize=size)
    ax.set_yticks(ticks, [names[i] for i in ticks], fontsize=size)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if len(names) <= MOST_CELL_VALUES:
        for (row, column), value in np.ndenumerate(values):
            text = "–" if np.isnan(value) else f"{value:.2f}".replace("0.", ".")
            colour = "white" if abs(value) > 0.65 else DARK
            ax.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    return image


def _title(text: str, simulated: bool) -> str:
    return f"{text} (simulated data)" if simulated else text


def _with_unit(text: str, unit: str) -> str:
    return f"{text} ({_plain(unit)})" if unit else text


def _plain(text: str) -> str:
    """A user's words, in which matplotlib must see no formula."""
    return text.replace("$", r"\$")
