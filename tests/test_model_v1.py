"""A final model of schema version 1, kept for good: later versions must predict what it did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from hclmp.model import Model
from tests.conftest import Command

FIXTURES = Path(__file__).parent / "fixtures"


def test_a_model_of_schema_version_1_predicts_what_it_did() -> None:
    recorded = pd.read_csv(FIXTURES / "model_v1_predictions.csv", keep_default_na=False)
    about = json.loads((FIXTURES / "model_v1/model.json").read_text())
    assert about["schema_version"] == 1
    model = Model.load(FIXTURES / "model_v1")
    found = model.predict(recorded["formula"].tolist())
    assert list(found.columns) == list(recorded.columns)
    for now, then in zip(found["warning"], recorded["warning"], strict=True):
        assert now.partition("(")[0] == then.partition("(")[0], "but for the distance"
    assert found["system"].tolist() == recorded["system"].tolist()
    numbers = [f"alpha_{i}{end}" for i in range(1, 11) for end in ("", "_std", "_low", "_high")]
    # another machine adds up in another order; a distance of 0 is the root of a rounding error
    np.testing.assert_allclose(found[numbers], recorded[numbers], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["distance"], recorded["distance"], rtol=1e-3, atol=1e-2)
    assert model.units["alpha_5"] == "1e5/cm"
    assert recorded["warning"].ne("").any(), "a warning is among them"


def test_predictions_as_json(command: Command) -> None:
    answer = command("-q", "predict", FIXTURES / "model_v1", "TiO2", "Fe0.3Ti0.5W0.2", "--json")
    assert answer.code == 0, answer.text
    # a warning follows on stderr, quiet or not
    content, end = json.JSONDecoder().raw_decode(answer.text)
    assert "1 of 2 predictions are doubtful" in answer.text[end:]
    assert content["simulated"] is True
    assert content["units"]["alpha_5"] == "1e5/cm"
    found = Model.load(FIXTURES / "model_v1").predict(["TiO2", "Fe0.3Ti0.5W0.2"])
    assert [c["formula"] for c in content["compositions"]] == found["formula"].tolist()
    np.testing.assert_allclose(
        [c["alpha_5_low"] for c in content["compositions"]], found["alpha_5_low"], rtol=1e-6
    )
    assert [bool(c["warning"]) for c in content["compositions"]] == [False, True]
