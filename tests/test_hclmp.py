"""H-CLMP itself: symmetries, determinism, capacity, and agreement with the published sizes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hclmp.config import PAPER_PRESET, ModelConfig
from hclmp.data.inputs import Inputs
from hclmp.models import recall
from hclmp.models.descriptors import descriptors
from hclmp.models.hclmp import composition_encoder
from hclmp.models.hclmp.batch import Batch, Labels, Table
from hclmp.models.hclmp.composition_encoder import weighted_softmax
from hclmp.models.hclmp.layers import Draws, TokenAttention, stack_members
from hclmp.models.hclmp.losses import gaussian_kl, gaussian_nll, mean_error, shape_divergence
from hclmp.models.hclmp.network import HCLMP
from hclmp.models.recall import attention, hidden_in_training, is_superset_of
from tests.made_up.synthetic import inputs, labelled, permuted

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
        torch.from_numpy(given.compositions.elements)[None],
        torch.from_numpy(given.compositions.fractions)[None],
        torch.from_numpy(descriptors(given)).float()[None],
        torch.from_numpy(given.compositions.dense() > 0).float()[None],
        None if given.dos is None else torch.from_numpy(given.dos)[None],
    )


def labels_of(values: torch.Tensor) -> Labels:
    """Of values [n, L]."""
    return Labels(values.nan_to_num()[None], (~values.isnan()).float()[None])


def table_of(given: Inputs, values: torch.Tensor) -> Table:
    return Table.of(batch_of(given), labels_of(values))


def draws(*seeds: int) -> Draws:
    return Draws([torch.Generator().manual_seed(seed) for seed in seeds])


def losses(
    model: HCLMP,
    batch: Batch,
    values: torch.Tensor,
    *,
    queries: int,
    seed: int = 0,
    whole_systems: bool = True,
) -> dict[str, torch.Tensor]:
    """The parts of the loss of a model of one member."""
    return model.loss(
        batch, labels_of(values), queries=queries, draws=draws(seed), whole_systems=whole_systems
    )


def model_for(
    given: Inputs, config: ModelConfig | None = None, *, properties: int = 3, seed: int = 0
) -> HCLMP:
    torch.manual_seed(seed)
    model = HCLMP(
        config or ModelConfig(),
        vectors=torch.from_numpy(given.elements.vectors["matscholar"]),
        statistics=descriptors(given).shape[1],
        properties=properties,
        dos=None if given.dos is None else given.dos.shape[1],
    )
    known = labelled(40, dos=None if given.dos is None else given.dos.shape[1], seed=9)
    labels = torch.randn(40, properties, generator=torch.Generator().manual_seed(7))
    model.remember(table_of(known.inputs, labels))
    return model


def predicted(model: HCLMP, batch: Batch) -> torch.Tensor:
    """The prediction and the spread of what is recalled, side by side."""
    return torch.cat(model(batch), dim=2)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("dos", [None, 11])
@torch.no_grad()
def test_order_of_elements_and_padding_change_nothing(config: ModelConfig, dos: int | None) -> None:
    given_ = inputs(24, dos=dos)
    model = model_for(given_, config)
    torch.testing.assert_close(
        predicted(model, batch_of(permuted(given_))),
        predicted(model, batch_of(given_)),
        rtol=1e-4,
        atol=1e-5,
    )


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.integers(0, 29), min_size=1, max_size=12), dos=st.sampled_from([None, 11]))
@torch.no_grad()
def test_a_row_does_not_depend_on_its_batch(rows: list[int], dos: int | None) -> None:
    given_ = inputs(30, dos=dos)
    model = model_for(given_)
    whole = predicted(model, batch_of(given_))[:, rows]
    alone = predicted(model, batch_of(given_.take(np.array(rows))))
    torch.testing.assert_close(alone, whole, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["default", "paper"])
def test_taken_in_parts_by_number_of_elements_nothing_changes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inputs(200)
    batch = batch_of(given)
    assert len(set((batch.fractions > 0).sum(dim=-1).flatten().tolist())) > 1
    encoder = model_for(given, PAPER if name == "paper" else None).material.encoder
    in_parts = encoder(batch.elements, batch.fractions)
    monkeypatch.setattr(composition_encoder, "PARTS", 1)
    assert torch.allclose(encoder(batch.elements, batch.fractions), in_parts, atol=1e-6)


def test_composition_matters_and_so_does_the_dos_feature() -> None:
    given_ = inputs(10, dos=11)
    model = model_for(given_)
    before = model(batch_of(given_))[0]
    assert before[0].std(dim=0).min() > 1e-4
    assert given_.dos is not None
    shifted = Inputs(given_.compositions, given_.elements, given_.dos + 1)
    assert (model(batch_of(shifted))[0] - before).abs().max() > 1e-3


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
@torch.no_grad()
def test_predictions_are_deterministic_in_evaluation(config: ModelConfig) -> None:
    given_ = inputs(8)
    model = model_for(given_, config)
    assert torch.equal(predicted(model, batch_of(given_)), predicted(model, batch_of(given_)))


@pytest.mark.parametrize("properties", [1, 3])
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
def test_batch_of_one_and_single_property(config: ModelConfig, rows: int, properties: int) -> None:
    given_ = inputs(rows)
    model = model_for(given_, config, properties=properties)
    values = torch.randn(rows, properties)
    parts = losses(model, batch_of(given_), values, queries=min(rows, 4))
    loss = torch.stack(list(parts.values())).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in used(model))
    assert model(batch_of(given_))[0].shape == (1, rows, properties)


def used(model: HCLMP) -> list[torch.nn.Parameter]:
    """Parameters that always have a gradient: without covariance its factor has none."""
    idle = set() if model.config.covariance else {"refinement.slow_factor", "refinement.factor_map"}
    return [p for name, p in model.named_parameters() if name not in idle]


@pytest.mark.parametrize("dos", [None, 11])
def test_an_overfit_batch_goes_to_near_zero(dos: int | None) -> None:
    data = labelled(16, dos=dos)
    labels = torch.from_numpy((data.t - data.t.mean(axis=0)) / data.t.std(axis=0)).float()
    config = ModelConfig(dropout=0.0, dos_dropout=0.0, kl_weight=0.01, memory=0)
    batch, model = batch_of(data.inputs), model_for(data.inputs, config)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(500):
        loss = torch.stack(list(losses(model, batch, labels, queries=16, seed=step).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        error = (model(batch)[0] - labels).abs().mean()
    assert error < 0.08, f"standardised error {error:.3f} on 16 rows seen 500 times"


def test_the_dos_feature_of_whole_rows_is_hidden_and_in_training_alone() -> None:
    given_ = inputs(40, dos=11)
    batch, config = batch_of(given_), ModelConfig(dos_dropout=0.5)
    model = stack_members([model_for(given_, config, seed=seed) for seed in (0, 1)])
    seen = []
    model.material.dos_map.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    members, folds = [torch.Generator().manual_seed(seed) for seed in (3, 4)], 1
    model.material(batch, Draws(members, folds))
    model.material(batch, None)
    training, predicting = seen
    shown = (training == batch.dos).all(dim=-1)
    hidden = (training == 0).all(dim=-1)
    assert shown.shape == (2, 40)
    assert (shown ^ hidden).all(), "each row is as it is, not scaled up, or all 0"
    assert shown.any(dim=1).all()
    assert hidden.any(dim=1).all()
    assert (shown[0] != shown[1]).any(), "of each member other rows"
    assert torch.equal(predicting, batch.dos)


def test_published_sizes() -> None:
    """method.md: 907,407 parameters in the composition encoder; 3,461,245 in all with transfer."""
    torch.manual_seed(0)
    sizes = {}
    for dos in (161, None):
        model = HCLMP(PAPER, vectors=torch.randn(39, 200), statistics=7, properties=10, dos=dos)
        sizes[dos] = sum(p.numel() for p in model.parameters())
        encoder = sum(p.numel() for p in model.material.encoder.parameters())
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
    q_mean, q_log, p_mean, p_log = torch.randn(4, 2, 5, 6)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(q_mean, (0.5 * q_log).exp()), normal(p_mean, (0.5 * p_log).exp())
    )
    torch.testing.assert_close(
        gaussian_kl(q_mean, q_log, p_mean, p_log), expected.sum(dim=2).mean(dim=1)
    )


def test_mean_error_counts_by_weight() -> None:
    labels = torch.tensor([[[1.0, 0.0], [2.0, 5.0]]])
    weights = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
    error = mean_error(torch.zeros(1, 2, 2), labels, weights)
    assert error.tolist() == pytest.approx([(1 + 1 + 2.5) / 2])


def test_shape_divergence_is_a_divergence() -> None:
    """Zero for equal shapes whatever their offset, positive otherwise; the published is not."""
    labels = torch.tensor([[[0.0, 1.0, 2.0]]])
    every = torch.ones(1, 1, 3)
    assert float(shape_divergence(labels + 3, labels, every)) == pytest.approx(0, abs=1e-6)
    assert float(shape_divergence(labels.flip(2), labels, every)) > 0.1
    torch.manual_seed(0)
    for _ in range(20):
        a, b = torch.randn(2, 1, 4, 3)
        assert float(shape_divergence(a, b, torch.ones(1, 4, 3))) > 0


def test_gaussian_nll_against_torch() -> None:
    torch.manual_seed(0)
    factor, residual = torch.randn(2, 4, 4), torch.randn(2, 7, 4)
    covariance = factor @ factor.mT + 0.1 * torch.eye(4)
    every = torch.ones(2, 7, 4, dtype=torch.bool)
    nlls = gaussian_nll(residual, covariance, None)
    torch.testing.assert_close(gaussian_nll(residual, covariance, every), nlls)
    for member, nll in enumerate(nlls):
        normal = torch.distributions.MultivariateNormal(torch.zeros(4), covariance[member])
        expected = -normal.log_prob(residual[member]).mean() - 2 * math.log(2 * math.pi)
        assert float(nll) == pytest.approx(float(expected) / 4, rel=1e-4)


def test_missing_labels_leave_the_marginal_likelihood() -> None:
    torch.manual_seed(0)
    factor, residual = torch.randn(1, 3, 3), torch.randn(1, 5, 3)
    covariance = factor @ factor.mT + 0.1 * torch.eye(3)
    present = torch.tensor([[[True, False, True]]]).repeat(1, 5, 1)
    kept = covariance[:, [0, 2]][:, :, [0, 2]]
    marginal = gaussian_nll(residual[..., [0, 2]], kept, torch.ones(1, 5, 2, dtype=torch.bool))
    nll = gaussian_nll(residual * present, covariance, present)
    assert float(nll) == pytest.approx(float(marginal) * 2 / 3, rel=1e-5)


def test_missing_labels_count_in_no_part_of_the_loss() -> None:
    data = labelled(8)
    model = model_for(data.inputs)
    labels = torch.randn(8, 3)
    labels[3] = torch.nan  # a row without any label
    labels[5, 1] = torch.nan
    parts = losses(model, batch_of(data.inputs), labels, queries=6)
    assert all(torch.isfinite(part) for part in parts.values())
    torch.stack(list(parts.values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    blanks = labels.isnan()
    filled = losses(model, batch_of(data.inputs), labels.masked_fill(blanks, 0), queries=6)
    assert float(parts["l1"].detach()) != float(filled["l1"].detach()), "a blank is no label of 0"


def test_the_likelihood_trains_the_covariance_alone() -> None:
    data = labelled(8)
    model = model_for(data.inputs)
    losses(model, batch_of(data.inputs), torch.randn(8, 3), queries=8)["likelihood"].backward()
    moved = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"refinement.slow_factor"}


@torch.no_grad()
def test_what_is_recalled_is_the_mean_and_spread_of_the_labels_by_likeness() -> None:
    model = model_for(inputs(1))
    keys = torch.tensor([[[0.0] * 256, [3.0] + [0.0] * 255, [0.0] * 256]])
    labels = labels_of(torch.tensor([[1.0, 5.0, 0.0], [3.0, 5.0, 0.0], [5.0, torch.nan, 1.0]]))
    recalled = model._recall(keys[:, :1], keys, labels, None)
    far = math.exp(-3.0)
    weights = torch.tensor([1.0, far, 1.0]) / (2 + far)
    values = labels.values[0, :, 0]
    mean = float(weights @ values)
    assert float(recalled.labels[0, 0, 0]) == pytest.approx(mean, rel=1e-5)
    variance = float(weights @ (values - mean) ** 2)
    assert float(recalled.spread[0, 0, 0]) == pytest.approx(variance**0.5, rel=1e-4)
    assert float(recalled.labels[0, 0, 1]) == pytest.approx(5.0), "a blank is not recalled"
    hidden = torch.tensor([[[1.0, 0.0, 0.0]]])
    others = model._recall(keys[:, :1], keys, labels, hidden).labels[0, 0, 0]
    weights = torch.tensor([0.0, far, 1.0]) / (1 + far)
    assert float(others) == pytest.approx(float(weights @ values), rel=1e-5)


@torch.no_grad()
def test_a_label_that_counts_less_is_recalled_less() -> None:
    model = model_for(inputs(1))
    keys = torch.zeros(1, 2, 256)
    labels = Labels(torch.tensor([[[0.0], [4.0]]]).repeat(1, 1, 3), torch.ones(1, 2, 3))
    labels.weights[0, 1] = 1 / 3
    recalled = model._recall(keys[:, :1], keys, labels, None)
    assert recalled.labels[0, 0].tolist() == pytest.approx([1.0] * 3)


def test_in_training_a_composition_recalls_none_of_its_own_system() -> None:
    """The labels of its system and of supersets change nothing, those of others do."""
    data = labelled(40)
    model, batch, values = model_for(data.inputs), batch_of(data.inputs), torch.randn(40, 3)
    count = batch.present[0].sum(dim=1)
    first = int(count.argmin())  # of few elements, so that it has supersets
    order = torch.cat([torch.tensor([first]), torch.arange(40)[torch.arange(40) != first]])
    batch, values = Batch(*(None if t is None else t[:, order] for t in batch)), values[order]
    own = is_superset_of(batch.present[0, :1], batch.present[0])[0]
    assert (batch.present[0, own].sum(dim=1) > count[first]).any(), "a superset"
    own[0] = False  # its own label is what it is to predict

    def error(rows: torch.Tensor, *, whole_systems: bool) -> float:
        changed = values.clone()
        changed[rows] += 5
        parts = losses(model, batch, changed, queries=1, whole_systems=whole_systems)
        return parts["l1"].item()

    nothing, others = torch.zeros_like(own), ~own
    others[0] = False
    assert error(own, whole_systems=True) == error(nothing, whole_systems=True)
    assert error(others, whole_systems=True) != error(nothing, whole_systems=True)
    assert error(own, whole_systems=False) != error(nothing, whole_systems=False)


@pytest.mark.parametrize("whole_systems", [True, False])
@torch.no_grad()
def test_a_composition_never_recalls_itself(whole_systems: bool) -> None:
    """Not even where all is of its system and hidden."""
    keys = torch.zeros(1, 3, 4)
    present = torch.ones(1, 3, 2)
    hidden = hidden_in_training(present[:, :2], present, whole_systems=whole_systems)
    weights = attention(keys[:, :2], keys, torch.ones(()), hidden)
    assert weights[0].tolist() == [[0, 0.5, 0.5], [0.5, 0, 0.5]]


def test_what_is_hidden_in_training() -> None:
    present = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 1], [1, 0, 1]])
    hidden = hidden_in_training(present[:2], present)
    assert hidden.tolist() == [[2, 0, 1, 1], [0, 2, 1, 0]]
    assert (hidden - torch.eye(2, 4)).bool().equal(is_superset_of(present[:2], present))
    alone = hidden_in_training(present[:2], present, whole_systems=False)
    assert alone.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]


@torch.no_grad()
def test_nothing_recalled_is_no_certainty() -> None:
    model = model_for(inputs(1))
    labels = labels_of(torch.tensor([[1.0, torch.nan, 2.0], [1.0, torch.nan, 2.0]]))
    recalled = model._recall(torch.zeros(1, 1, 256), torch.zeros(1, 2, 256), labels, None)
    assert recalled.spread[0, 0].tolist() == pytest.approx([1e-3, 1.0, 1e-3])


@torch.no_grad()
def test_a_memory_beyond_its_bound_is_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "MOST_REMEMBERED", 15)
    data = labelled(40)
    model = model_for(data.inputs)
    model.remember(table_of(data.inputs, torch.arange(120.0).reshape(40, 3)))
    assert model.memory_labels[0, :, 0].tolist() == [3.0 * (40 * i // 15) for i in range(15)]
    assert model.memory_keys.shape == (1, 15, 256)


@pytest.mark.parametrize("config", [ModelConfig(), PAPER], ids=["default", "paper"])
def test_members_side_by_side_are_what_they_are_alone(config: ModelConfig) -> None:
    """Predictions, losses and gradients, with the draws of each member's own generator."""
    data = labelled(12, dos=11)
    batch, values = batch_of(data.inputs), labels_of(torch.from_numpy(data.t).float())
    alone = [model_for(data.inputs, config, seed=seed) for seed in (3, 4)]
    parts = [
        m.loss(
            batch,
            values,
            queries=7,
            draws=draws(seed),
            whole_systems=True,
        )
        for seed, m in enumerate(alone)
    ]
    for part in parts:
        torch.stack(list(part.values())).sum().backward()
    gradients = [{n: p.grad for n, p in m.named_parameters()} for m in alone]
    with torch.no_grad():
        expected = [m(batch)[0] for m in alone]
    both = stack_members([model_for(data.inputs, config, seed=seed) for seed in (3, 4)])
    known = labelled(40, dos=11, seed=9)
    generator = torch.Generator().manual_seed(7)
    both.remember(table_of(known.inputs, torch.randn(40, 3, generator=generator)))
    with torch.no_grad():
        torch.testing.assert_close(both(batch)[0], torch.cat(expected), rtol=1e-4, atol=1e-5)
    rows = torch.arange(12).repeat(2, 1)
    together = both.loss(
        batch.rows(rows), values.rows(rows), queries=7, draws=draws(0, 1), whole_systems=True
    )
    for name, part in together.items():
        torch.testing.assert_close(part, torch.cat([p[name] for p in parts]), rtol=1e-4, atol=1e-5)
    torch.stack(list(together.values())).sum().backward()
    for name, parameter in both.named_parameters():
        for i, gradient in enumerate(gradients):
            if gradient[name] is not None:
                torch.testing.assert_close(
                    parameter.grad[i : i + 1], gradient[name], rtol=1e-3, atol=1e-4, msg=name
                )


def test_attention_over_properties_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours = TokenAttention(8, heads=2, hidden=16, dropout=0.0)
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
    with torch.no_grad():
        for own, name in (
            (ours.query_key_value, "self_attn.in_proj_"),
            (ours.out, "self_attn.out_proj."),
        ):
            _set(theirs, name, own)
        _set(theirs, "linear1.", ours.widen)
        _set(theirs, "linear2.", ours.narrow)
    tokens = torch.randn(1, 5, 4, 8)
    torch.testing.assert_close(ours(tokens, None)[0], theirs(tokens[0]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        ours(tokens, draws(0)), ours(tokens, None), msg="no dropout, nothing random"
    )


def _set(module: torch.nn.Module, name: str, own: torch.nn.Module) -> None:
    parameters = dict(module.named_parameters())
    parameters[f"{name}weight"].copy_(own.weight[0].T)
    parameters[f"{name}bias"].copy_(own.bias[0, 0])
