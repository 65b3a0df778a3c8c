"""H-CLMP itself: symmetries, determinism, capacity, and agreement with the published sizes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hclmp.config import PAPER_PRESET, ModelConfig
from hclmp.models.hclmp import (
    HCLMP,
    Batch,
    gaussian_kl,
    gaussian_nll,
    shape_divergence,
    weighted_softmax,
)
from hclmp.models.interface import Inputs
from tests.synthetic import inputs, labelled, permuted

PAPER = ModelConfig.model_validate(PAPER_PRESET["model"])
VARIANTS = {
    "default": ModelConfig(),
    "drawn": ModelConfig(token_noise="drawn"),
    "no label branch": ModelConfig(label_branch=False),
    "no covariance": ModelConfig(covariance=False),
    "no attention": ModelConfig(property_attention=False),
    "none of them": ModelConfig(label_branch=False, covariance=False, property_attention=False),
}


def batch_of(given: Inputs) -> Batch:
    return Batch(
        torch.from_numpy(given.compositions.elements),
        torch.from_numpy(given.compositions.fractions),
        None if given.dos is None else torch.from_numpy(given.dos),
    )


def model_for(
    given: Inputs, config: ModelConfig | None = None, *, properties: int = 3, seed: int = 0
) -> HCLMP:
    torch.manual_seed(seed)
    model = HCLMP(
        config or ModelConfig(),
        vectors=torch.from_numpy(given.elements.vectors["matscholar"]),
        properties=properties,
        dos=None if given.dos is None else given.dos.shape[1],
    )
    return model.eval()


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("dos", [None, 11])
@torch.no_grad()
def test_order_of_elements_and_padding_change_nothing(config: ModelConfig, dos: int | None) -> None:
    given_ = inputs(24, dos=dos)
    model = model_for(given_, config)
    torch.testing.assert_close(
        model(batch_of(permuted(given_))), model(batch_of(given_)), rtol=1e-4, atol=1e-5
    )


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.integers(0, 29), min_size=1, max_size=12), dos=st.sampled_from([None, 11]))
@torch.no_grad()
def test_a_row_does_not_depend_on_its_batch(rows: list[int], dos: int | None) -> None:
    given_ = inputs(30, dos=dos)
    model = model_for(given_)
    whole = model(batch_of(given_))[rows]
    torch.testing.assert_close(
        model(batch_of(given_.take(np.array(rows)))), whole, rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_composition_matters_and_so_does_the_dos_feature() -> None:
    given_ = inputs(10, dos=11)
    model = model_for(given_)
    before = model(batch_of(given_))
    assert before.std(dim=0).min() > 1e-4
    assert given_.dos is not None
    shifted = Inputs(given_.compositions, given_.elements, given_.dos + 1)
    assert (model(batch_of(shifted)) - before).abs().max() > 1e-3


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
@torch.no_grad()
def test_predictions_are_deterministic_in_evaluation(config: ModelConfig) -> None:
    given_ = inputs(8)
    model = model_for(given_, config)
    assert torch.equal(model(batch_of(given_)), model(batch_of(given_)))


@pytest.mark.parametrize("properties", [1, 3])
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
def test_batch_of_one_and_single_property(config: ModelConfig, rows: int, properties: int) -> None:
    given_ = inputs(rows)
    model = model_for(given_, config, properties=properties).train()
    parts = model.loss(batch_of(given_), torch.randn(rows, properties))
    loss = torch.stack(list(parts.values())).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in used(model))
    assert model.eval()(batch_of(given_)).shape == (rows, properties)


def used(model: HCLMP) -> list[torch.nn.Parameter]:
    """Parameters that can have a gradient: without covariance its factor has none."""
    idle = set() if model.config.covariance else {"refinement.slow_factor", "refinement.factor_map"}
    return [p for name, p in model.named_parameters() if name not in idle]


@pytest.mark.parametrize("dos", [None, 11])
def test_an_overfit_batch_goes_to_near_zero(dos: int | None) -> None:
    data = labelled(16, dos=dos)
    labels = torch.from_numpy((data.t - data.t.mean(axis=0)) / data.t.std(axis=0)).float()
    config = ModelConfig(dropout=0.0, kl_weight=0.01)
    batch, model = batch_of(data.inputs), model_for(data.inputs, config)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(500):
        model.train()
        loss = torch.stack(list(model.loss(batch, labels).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        error = (model.eval()(batch) - labels).abs().mean()
    assert error < 0.08, f"standardised error {error:.3f} on 16 rows seen 500 times"


def test_published_sizes() -> None:
    """method.md: 907,407 parameters in the composition encoder; 3,461,245 in all with transfer."""
    torch.manual_seed(0)
    sizes = {}
    for dos in (161, None):
        model = HCLMP(PAPER, vectors=torch.randn(39, 200), properties=10, dos=dos)
        sizes[dos] = sum(p.numel() for p in model.parameters())
        encoder = sum(p.numel() for p in model.encoder.parameters())
        # Ours keeps one bias per layer where the paper has one per head for the gate's output
        # (it cancels in the softmax) and for the message (their mean is one bias).
        gate_biases = 3 * 3 + 3
        message_biases = (3 + 1) * (3 - 1) * 64
        assert encoder + gate_biases + message_biases == 907_407
    # The paper counts a DOS map (10,368) and a bias (512) that it does not use, in both.
    idle, missing = 161 * 64 + 64, gate_biases + message_biases + 512
    assert sizes[161] + missing == pytest.approx(3_461_245, abs=10)
    assert sizes[None] + missing + idle == pytest.approx(3_412_093, abs=10)


def test_weighted_softmax_by_hand() -> None:
    fractions = torch.tensor([0.25, 0.75, 0.0])
    gate = torch.tensor([[0.0], [0.0], [9.0]])
    weights = weighted_softmax(gate, fractions, torch.tensor([1.0]))[:, 0]
    torch.testing.assert_close(weights, fractions)  # equal gates, power 1: the fractions
    weights = weighted_softmax(gate, fractions, torch.tensor([2.0]))[:, 0]
    torch.testing.assert_close(weights, torch.tensor([0.1, 0.9, 0.0]))


def test_gaussian_kl_against_torch() -> None:
    torch.manual_seed(0)
    q_mean, q_log, p_mean, p_log = torch.randn(4, 5, 6)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(q_mean, (0.5 * q_log).exp()), normal(p_mean, (0.5 * p_log).exp())
    )
    torch.testing.assert_close(
        gaussian_kl(q_mean, q_log, p_mean, p_log), expected.sum(dim=1).mean()
    )


def test_shape_divergence_is_a_divergence() -> None:
    """Zero for equal shapes whatever their offset, positive otherwise; the published is not."""
    labels = torch.tensor([[0.0, 1.0, 2.0]])
    every = torch.ones(1, 3, dtype=torch.bool)
    assert float(shape_divergence(labels + 3, labels, every)) == pytest.approx(0, abs=1e-6)
    assert float(shape_divergence(labels.flip(1), labels, every)) > 0.1
    torch.manual_seed(0)
    for _ in range(20):
        assert float(shape_divergence(torch.randn(4, 3), torch.randn(4, 3), every)) > 0


def test_gaussian_nll_against_torch() -> None:
    torch.manual_seed(0)
    factor, residual = torch.randn(4, 4), torch.randn(7, 4)
    covariance = factor @ factor.T + 0.1 * torch.eye(4)
    normal = torch.distributions.MultivariateNormal(torch.zeros(4), covariance)
    expected = -normal.log_prob(residual).mean() - 2 * math.log(2 * math.pi)
    every = torch.ones(7, 4, dtype=torch.bool)
    nll = float(gaussian_nll(residual, covariance, every))
    assert nll == pytest.approx(float(expected) / 4, rel=1e-4)


def test_missing_labels_leave_the_marginal_likelihood() -> None:
    torch.manual_seed(0)
    factor, residual = torch.randn(3, 3), torch.randn(5, 3)
    covariance = factor @ factor.T + 0.1 * torch.eye(3)
    present = torch.tensor([[True, False, True]]).repeat(5, 1)
    kept = covariance[[0, 2]][:, [0, 2]]
    marginal = gaussian_nll(residual[:, [0, 2]], kept, torch.ones(5, 2, dtype=torch.bool))
    nll = gaussian_nll(residual * present, covariance, present)
    assert float(nll) == pytest.approx(float(marginal) * 2 / 3, rel=1e-5)


def test_missing_labels_count_in_no_part_of_the_loss() -> None:
    data = labelled(8)
    model = model_for(data.inputs).eval()
    labels = torch.randn(8, 3)
    labels[3] = torch.nan  # a row without any label
    labels[5, 1] = torch.nan
    torch.manual_seed(0)
    parts = model.loss(batch_of(data.inputs), labels)
    assert all(torch.isfinite(part) for part in parts.values())
    torch.stack(list(parts.values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    torch.manual_seed(0)
    blanks = labels.isnan()
    predicted = model.loss(batch_of(data.inputs), labels.masked_fill(blanks, 0))
    assert float(parts["l1"].detach()) != float(predicted["l1"].detach()), (
        "a blank is not a label of 0"
    )


def test_the_likelihood_trains_the_covariance_alone() -> None:
    data = labelled(8)
    model = model_for(data.inputs).train()
    model.loss(batch_of(data.inputs), torch.randn(8, 3))["likelihood"].backward()
    moved = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"refinement.slow_factor"}
