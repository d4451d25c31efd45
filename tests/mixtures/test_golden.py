"""MoDoMoDo and its neighbours against hand-checkable values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curri import mixtures
from curri.mixtures.surrogates import QuadraticLeastSquares, ScheffeQuadratic

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "modomodo.json").read_text(encoding="utf-8"))
CASES: dict[str, Any] = {case["name"]: case for case in GOLDEN["cases"]}


def inputs_and_expected(name: str) -> tuple[dict[str, Any], dict[str, Any], float]:
    case = CASES[name]
    return case["inputs"], case["expected"], case["tolerance"]


def test_every_case_is_tested_here() -> None:
    assert set(CASES) == {
        "in_score_out_score",
        "heuristic_alpha_family_without_dataset1",
        "heuristic_leave_one_out",
        "quadratic_surrogate_m2_vertex",
        "identifiable_parameters_on_simplex",
        "training_length_caps",
        "data_mixing_law",
        "aioli_update",
        "bimix_law",
    }


def test_in_score_out_score() -> None:
    inputs, expected, tolerance = inputs_and_expected("in_score_out_score")
    sizes, scores = inputs["test_sizes"], inputs["scores"]
    for name, tests in (
        ("In_Score", ["LISA", "SAT", "ScienceQA"]),
        ("Out_Score", ["ChartQA", "InfoVQA", "MathVista", "MMMU"]),
    ):
        total = sum(sizes[test] for test in tests)
        text = f"{name}=({'+'.join(f'{sizes[test]}*{test}' for test in tests)})/{total}"
        target = mixtures.parse_target(text, scores)
        value = sum(c * scores[test] for test, c in target.parts.items())
        assert value == pytest.approx(expected[name], abs=tolerance)
        assert round(value, 4) == expected["printed"][name]


def test_heuristic_alpha_family_without_dataset1() -> None:
    inputs, expected, tolerance = inputs_and_expected("heuristic_alpha_family_without_dataset1")
    for alpha_single in (1.0, 0.3):
        found = mixtures.alpha_family(inputs["records"], inputs["datasets"], alpha_single=alpha_single)
        assert found.keys() == expected.keys()
        for name, weights in expected.items():
            assert found[name] == pytest.approx(weights, abs=tolerance)


def test_heuristic_leave_one_out() -> None:
    inputs, expected, tolerance = inputs_and_expected("heuristic_leave_one_out")
    missing = inputs["out_when_missing"]
    assert mixtures.leave_one_out_weights(missing) == pytest.approx(expected["weights"], abs=tolerance)
    raw = mixtures.leave_one_out_weights(list(missing.values()), normalise=False)
    assert raw == pytest.approx(expected["raw"], abs=tolerance)


def test_quadratic_surrogate_m2_vertex() -> None:
    inputs, expected, tolerance = inputs_and_expected("quadratic_surrogate_m2_vertex")
    weights, value = mixtures.quadratic_optimum(inputs["a"], inputs["b"], inputs["C"])
    assert weights == pytest.approx(expected["argmax"], abs=tolerance)
    assert value == pytest.approx(expected["max"], abs=tolerance)


@pytest.mark.parametrize("place", range(6))
def test_identifiable_parameters_on_simplex(place: int) -> None:
    inputs, expected, _ = inputs_and_expected("identifiable_parameters_on_simplex")
    m, rank = inputs["m"][place], expected["rank"][place]
    assert QuadraticLeastSquares.minimum_runs(m) == rank
    rows = np.random.default_rng(m).dirichlet(np.ones(m), 3 * rank)
    for model, columns in (
        (QuadraticLeastSquares(), expected["columns_1_w_upper_triangle"][place]),
        (ScheffeQuadratic(), rank),
    ):
        features = model._features(rows)
        assert features.shape[1] == columns
        assert np.linalg.matrix_rank(features) == rank


def test_training_length_caps() -> None:
    inputs, expected, tolerance = inputs_and_expected("training_length_caps")
    sizes = list(inputs["train_sizes"].values())
    steps, per_step = inputs["steps"], inputs["prompts_per_step"]
    assert steps * per_step == expected["total_prompts"]
    caps = mixtures.weight_caps(sizes, steps * per_step)
    assert caps == pytest.approx(list(expected["max_weight_before_a_dataset_runs_out"].values()), abs=tolerance)
    found = mixtures.exhaustion(np.eye(5), sizes, steps, per_step)
    stops = [int(step) for step in expected["single_runs_stop_at_step"].values()]
    assert found.stop_step.tolist() == stops
    assert found.early.tolist() == [step < steps for step in stops]


def test_data_mixing_law() -> None:
    inputs, expected, tolerance = inputs_and_expected("data_mixing_law")
    loss = mixtures.data_mixing_law(inputs["w"], inputs["c"], inputs["k"], inputs["t"])
    assert float(loss) == pytest.approx(expected["loss"], abs=tolerance)


def test_aioli_update() -> None:
    inputs, expected, tolerance = inputs_and_expected("aioli_update")
    drops = np.array(inputs["loss_drop_matrix"])
    assert drops / drops.sum() == pytest.approx(np.array(expected["normalised"]), abs=tolerance)
    after = mixtures.aioli_update(inputs["weights"], drops, rate=inputs["eta"])
    assert after == pytest.approx(expected["weights_after"], abs=tolerance)


def test_bimix_law() -> None:
    inputs, expected, tolerance = inputs_and_expected("bimix_law")
    loss = mixtures.bimix_law(
        inputs["r"],
        inputs["s"],
        scale=(inputs["A"], inputs["B"]),
        power=(inputs["alpha"], inputs["beta"]),
        rest=inputs["C"],
    )
    assert float(loss) == pytest.approx(expected["loss"], abs=tolerance)
