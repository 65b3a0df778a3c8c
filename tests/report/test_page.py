"""What stands on the page: that of the results, all of it, and nothing of the network's."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hclmp.errors import UserError
from hclmp.pipeline.checks import check_results
from hclmp.pipeline.jobs import job
from hclmp.pipeline.steps.report import report
from hclmp.provenance import PACKAGE, read_provenance, source_files
from tests.report.conftest import NASTY, Made, Tables, embedded, hclmp


def copy_of(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil, entered."""
    run = tmp_path / "run"
    shutil.copytree(made.directory, run)
    monkeypatch.chdir(run)
    return run


def test_the_headline_is_that_of_the_metrics_file(demo: Made) -> None:
    rows = Tables(demo.page).rows["headline"]
    found = {row[0].split("\n")[0]: row[1:] for row in rows[1:6]}
    values = demo.metrics["variants"]
    assert list(found) == sorted(values, key=lambda v: float(values[v]["mae_std"]))
    best = next(v for v in found if v in ("extra_trees", "mean"))
    for variant, (error, relative, r2, coverage, width, nll, joint, certain) in found.items():
        wanted = values[variant]
        assert error == f"{wanted['mae_std']:.3f}"
        assert certain == f"{wanted['mae_std_certain']:.3f}"
        assert [r2, nll, joint] == [f"{wanted[m]:.2f}" for m in ("r2", "nll", "nll_joint")]
        assert coverage == f"{100 * wanted['coverage90']:.0f} %"
        assert width == f"{wanted['width90_std']:.2f}"
        if variant == best:
            assert relative == "1"
            continue
        ratio = wanted["mae_std"] / values[best]["mae_std"]
        assert wanted[f"mae_std_vs_{best}_low"] is None
        less = "" if variant in ("hclmp", "mean", "extra_trees") else ", without the DOS"
        assert relative == f"{ratio:.2f}\nno interval\n{best}{less}"


def test_four_systems_are_too_few_for_an_interval_anywhere_on_the_page(
    demo: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "4 held-out systems are too few to say which model is better: 8 or more"
    text = re.sub(r"<script.*?</script>", "", demo.page, flags=re.DOTALL)
    assert why in text
    assert not re.search(r"\bnan\b|better than the best|worse than the best", text, re.IGNORECASE)
    assert "\nno interval" in Tables(demo.page).rows["ablation"][1][-1]
    with contextlib.chdir(demo.directory):
        hclmp("results")
    printed = " ".join(capsys.readouterr().out.split())
    assert why in printed
    assert "nan" not in printed


def test_eight_systems_have_an_interval_on_the_page(
    eight: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = Tables(eight.page).rows["headline"]
    found = {row[0].split("\n")[0]: row[2] for row in rows[1:4]}
    values = eight.metrics["variants"]
    best = min(("ridge", "mean"), key=lambda v: float(values[v]["mae_std"]))
    for variant in {"hclmp", "ridge", "mean"} - {best}:
        ends = [values[variant][f"mae_std_vs_{best}_{end}"] for end in ("low", "high")]
        ratio = values[variant]["mae_std"] / values[best]["mae_std"]
        assert found[variant] == f"{ratio:.2f}\n{ends[0]:.2f} to {ends[1]:.2f}\n{best}"
    assert "too few to say" not in eight.page
    verdict = eight.run.comparisons["hclmp"].verdict()[0]
    with contextlib.chdir(eight.directory):
        hclmp("results")
    assert verdict in html.unescape(eight.page)
    assert verdict in capsys.readouterr().out, "on the terminal too"


def test_a_property_in_decades_has_its_linear_metrics_beside(eight: Made, demo: Made) -> None:
    summary = pd.read_csv(eight.directory / "results/metrics/summary.csv")
    found = summary.query("variant == 'hclmp'").set_index(["property", "metric"])["value"]
    rows = {row[0]: row[1:] for row in Tables(eight.page).rows["headline"]}
    assert rows["gap"][0] == "eV"
    assert rows["rate"][0] == "decades\n1/s"
    values = found["rate"]
    assert rows["rate"][1] == f"{values['mae']:#.3g}\n{values['mae_linear']:#.3g}"
    assert rows["rate"][2] == f"{values['r2']:.2f}\n{values['r2_linear']:.2f}"
    assert rows["rate"][5] == f"{values['width90']:#.3g}\n{values['width90_linear']:#.3g}"
    assert values["mae"] < 10 < values["mae_linear"]
    assert not {"mae", "rmse", "mae_linear"} & set(eight.metrics["variants"]["hclmp"])
    assert "an MAE of 0.3 decades is a factor of 2" in eight.page
    assert "0.3 decades" not in demo.page
    assert demo.metrics["variants"]["hclmp"]["mae"] > 0, "one unit"


def test_it_says_how_many_held_out_compositions_were_given_their_own_dos(
    demo: Made, eight: Made
) -> None:
    own, n = demo.metrics["own_dos"], demo.metrics["n"]
    text = " ".join(re.sub(r"<script.*?</script>", "", demo.page, flags=re.DOTALL).split())
    given = f"{own} of the {n} held-out compositions were given their own simulated one"
    assert text.count(given) >= 2, "at the top and at the generator"
    assert "own_dos" not in eight.metrics
    assert "predicted from the composition, judged on" in eight.page
    for made in (demo, eight):
        assert "composition alone" not in made.page


def test_the_table_of_systems_is_that_of_by_system(demo: Made) -> None:
    table = pd.read_csv(demo.directory / "results/metrics/by_system.csv")
    table = table.query("property == 'all' and metric == 'mae_std'")
    wanted = table.pivot(index="system", columns="variant", values="value")
    names = [v["name"] for v in demo.data["variants"]]
    assert names == list(demo.config.variants)
    rows = demo.data["systems"]
    assert {row["system"] for row in rows} == set(wanted.index)
    for row in rows:
        assert row["errors"] == pytest.approx(wanted.loc[row["system"], names], rel=6e-3)


def test_coverage_and_width_of_the_intervals_are_those_of_the_predictions(demo: Made) -> None:
    frame = demo.run.frames["hclmp_t"]
    inside = frame["t_true"].between(frame["t_low"], frame["t_high"])
    width = (frame["t_high"] - frame["t_low"]) / frame["train_std"]
    by_property = inside.groupby(frame["property"]).mean()
    of_system = inside.groupby([frame["system"], frame["property"]]).mean()
    widths = width.groupby([frame["system"], frame["property"]]).mean()
    rows = {row[0]: row[1:] for row in Tables(demo.page).rows["headline"]}
    for name, share in by_property.items():
        assert rows[str(name)][4] == f"{100 * share:.0f} %"
    for row in demo.data["systems"]:
        name = row["system"]
        assert row["coverage90"] == pytest.approx(of_system[name].mean(), rel=1e-2)
        assert row["width90_std"] == pytest.approx(widths[name].mean(), rel=1e-2)


def test_the_calibration_is_that_of_the_metrics(demo: Made) -> None:
    data = demo.data["calibration"]
    values = demo.metrics["variants"]
    rows = {row[0]: row[1:] for row in Tables(demo.page).rows["calibration"][2:]}
    for variant, metrics in values.items():
        curve = dict(zip(data["nominal"], data["observed"][variant], strict=True))
        assert curve[0.9] == pytest.approx(metrics["coverage90"], rel=1e-2)
        assert list(curve.values()) == sorted(curve.values())
        shares = [f"{100 * curve[level]:.0f} %" for level in (0.8, 0.9, 0.95)]
        assert rows[variant][1:4] == shares
        assert rows[variant][-1] == f"{metrics['width90_std']:.2f}"


def test_a_system_in_full_is_that_of_the_predictions(demo: Made) -> None:
    frame = pd.concat(
        pd.read_parquet(demo.directory / f"results/predictions/hclmp_t/{fold}.parquet")
        for fold in ("a", "b")
    )
    assert set(demo.data["details"]) == set(frame["system"])
    for system, detail in demo.data["details"].items():
        assert np.sum(detail["fractions"], axis=0) == pytest.approx(1.0, abs=2e-3)
        for i, prop in enumerate(demo.data["properties"]):
            rows = frame[(frame["system"] == system) & (frame["property"] == prop["name"])]
            rows = rows.set_index("formula").loc[detail["formulas"]]
            assert detail["true"][i] == pytest.approx(rows["y_true"], rel=1e-3)
            assert detail["predicted"][i] == pytest.approx(rows["y_pred"], rel=1e-3)
            assert detail["low"][i] == pytest.approx(rows["y_low"], rel=2e-3, abs=1e-3)
            assert detail["high"][i] == pytest.approx(rows["y_high"], rel=2e-3, abs=1e-3)


def test_parity_has_every_label_of_a_small_table(demo: Made) -> None:
    frame = demo.run.frames["mean"]
    for i, prop in enumerate(demo.data["properties"]):
        rows = frame[frame["property"] == prop["name"]]
        true, predicted = demo.data["parity"]["points"]["mean"][i]
        assert true == pytest.approx(rows["y_true"], rel=1e-3)
        assert predicted == pytest.approx(rows["y_pred"], rel=1e-3)
    assert "are drawn, evenly spread over the table" not in demo.page


def test_all_parts_are_there(demo: Made) -> None:
    data = demo.data
    assert data["spectrum"] is True
    assert data["label"] == "simulated"
    assert "The numbers are simulated, not measured" in demo.page
    assert set(data["correlation"]["maps"]) == {"learned", "residuals", "labels"}
    assert len(data["dos"]["materials"]) > 1
    assert set(data["losses"]) == {"hclmp_t", "no_covariance", "hclmp"}
    assert data["losses"]["hclmp"]["epoch"] == [1, 2, 3]
    assert data["losses"]["hclmp"]["runs"] == 6, "two folds, three members"
    rows = Tables(demo.page).rows
    assert [row[:2] for row in rows["ablation"][1:]] == [
        ["no_covariance", "covariance: false"],
        ["hclmp", "without the density of states"],
    ]
    gan = json.loads((demo.directory / "results/gan/metrics.json").read_text())
    assert rows["dos"][-1][1] == f"{gan['mae']['generator']:#.3g}"
    assert "021409" in demo.page
    assert "snakemake --cores all --directory again" in demo.page


def test_the_configuration_on_the_page_makes_the_same_run(demo: Made) -> None:
    import yaml

    from hclmp.config import resolve

    (config,) = re.findall(r'<pre id="config">(.*?)</pre>', demo.page, flags=re.DOTALL)
    assert resolve(yaml.safe_load(html.unescape(config))) == demo.config
    (sheet,) = re.findall(r'<pre id="sheet">(.*?)</pre>', demo.page, flags=re.DOTALL)
    assert sheet == (demo.directory / "config/systems.tsv").read_text()


def test_it_is_small_and_names_no_address_to_load_from(demo: Made, least: Made) -> None:
    for made in (demo, least):
        assert 4e6 < len(made.page.encode()) < 15e6
        without_scripts = re.sub(r"(?s)<script>.*?</script>", "", made.page)
        assert "http" not in without_scripts.replace('http-equiv="Content', "")
        assert not re.search(r"\bsrc=", without_scripts)
        assert "@import" not in made.page.split("</style>")[0]
        assert '<meta name="viewport" content="width=device-width' in made.page


def test_equal_inputs_give_equal_bytes(
    demo: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(demo, tmp_path, monkeypatch)
    subprocess.run(
        [sys.executable, "-m", "hclmp.cli.main", "report"],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        check=True,
        cwd=run,
    )
    assert (run / "results/report.html").read_text() == demo.page


def test_it_says_where_it_comes_from(
    demo: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(demo, tmp_path, monkeypatch)
    page = run / "results/report.html"
    origin = read_provenance(page)
    assert origin == embedded(demo.page, "hclmp")["provenance"]
    assert origin["step"] == "report"
    assert origin["config"]["training"]["epochs"] == 3
    check_results(demo.config, "report")
    with open(run / "results/metrics/summary.csv", "a") as file:
        file.write("\n")
    with pytest.raises(UserError, match=r"report\.html: not what this run would make.*inputs"):
        check_results(demo.config, "report")
    page.write_text("<html></html>")
    with pytest.raises(UserError, match="damaged"):
        check_results(demo.config, "report")


def test_its_templates_and_scripts_are_part_of_its_source() -> None:
    names = {path.name for path in source_files("report")}
    assert {"page.html", "page.css", "plots.js", "table.js", "page.py"} <= names
    assert not {p for p in source_files("train") if p.parent == PACKAGE / "report"}


def test_metrics_of_other_predictions_are_refused(
    demo: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(demo, tmp_path, monkeypatch)
    (run / "results/report.html").unlink()
    predictions = run / "results/predictions"
    shutil.copy(predictions / "mean/a.parquet", predictions / "extra_trees/a.parquet")
    with pytest.raises(UserError, match=r"metrics\.json: made from other .*hclmp aggregate"):
        report(demo.config, job(demo.config, "report"))
    changed = demo.config.model_copy(
        update={"training": demo.config.training.model_copy(update={"epochs": 4})}
    )
    with pytest.raises(
        UserError, match=r"metrics\.json: made with another configuration.*hclmp aggregate"
    ):
        report(changed, job(changed, "report"))
    (run / "results/models/hclmp/b/history.csv").unlink()
    with pytest.raises(UserError, match=r"hclmp/b/history\.csv: no such file; `hclmp train "):
        report(demo.config, job(demo.config, "report"))
    assert not (run / "results/report.html").exists()


def test_names_of_the_user_are_text(least: Made) -> None:
    assert NASTY not in least.page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in least.page
    assert "a &lt;b&gt;table&lt;script&gt;.csv" in least.page
    assert least.data["properties"][0]["name"] == NASTY


def test_the_least_of_a_run(least: Made) -> None:
    data = least.data
    assert data["shown"] == "ridge"
    assert data["correlation"] is None
    assert data["dos"] is None
    assert data["losses"] == {}
    assert data["spectrum"] is False
    assert set(data["details"]) == {"Cu-Fe", "Ti-W"}
    for absent in ("correlation", "dos", "training", "ablation"):
        assert f'<section id="{absent}">' not in least.page
    assert "no H-CLMP in this run; ridge is the best of its baselines" in least.page
    assert "no variant uses densities of states" in least.page.lower()


def test_missing_labels_are_missing_and_not_zero(gaps: Made) -> None:
    data = gaps.data
    assert [p["log"] for p in data["properties"]] == [False, True]
    assert sum(len(detail["formulas"]) for detail in data["details"].values()) == 5
    frame = gaps.run.frames["hclmp"]
    for i, name in enumerate(("gap", "rate")):
        rows = frame[frame["property"] == name]
        cells = [v for detail in data["details"].values() for v in detail["true"][i]]
        assert cells.count(None) == rows["y_true"].isna().sum() > 0
        assert len(data["parity"]["points"]["hclmp"][i][0]) == rows["y_true"].notna().sum()
        predictions = [v for detail in data["details"].values() for v in detail["predicted"][i]]
        assert None not in predictions
    assert "NaN" not in json.dumps(data)
    assert "errors do not hold for systems" in " ".join(gaps.page.split()), (
        "the split is a random one"
    )


def test_the_command_writes_it_and_says_how_large_it_is(
    demo: Made, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_of(demo, tmp_path, monkeypatch)
    hclmp("report")
    assert re.search(r"results/report\.html: \d\.\d MB", capsys.readouterr().err)
    with contextlib.chdir(tmp_path):
        assert (tmp_path / "run/logs/runs/report.json").is_file()
