"""Calibration finds a known miscalibration, keeps the order of records, and fits no more than the records carry."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from vizecg.platform.calibration import LabelCalibration, apply_calibration
from vizecg.platform.evaluate.calibrate import (
    centred_isotonic,
    fit_calibration,
    platt,
    prior_shift,
    refit_calibration,
)


def simulated(num_records: int, seed: int = 0, centre: float = -1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True log-odds (N, 1), the logits (N, 1) of a model that is too sure and too high, and what happened (N, 1)."""
    rng = np.random.default_rng(seed)
    true = rng.normal(centre, 1.5, (num_records, 1))
    return true, 2.5 * true + 1.0, (rng.random((num_records, 1)) < expit(true)).astype(np.float32)


def known_of(target: np.ndarray) -> np.ndarray:
    return np.ones(target.shape, bool)


def ece(probability: np.ndarray, truth: np.ndarray, bins: int = 15) -> float:
    """Mean distance of said and seen in bins of equal width, weighted by their records."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [abs((probability[place == b] - truth[place == b]).sum()) for b in range(bins)]
    return float(sum(gaps) / len(truth))


@pytest.mark.parametrize(("num_records", "kind"), [(250, "platt"), (5000, "isotonic")])
def test_a_known_miscalibration_is_found(num_records: int, kind: str) -> None:
    _, z, happened = simulated(num_records)
    true, fresh_z, fresh = simulated(20_000, seed=1)

    (fit,) = fit_calibration(z, happened, known_of(happened))
    before, after = apply_calibration(fresh_z, [])[:, 0], apply_calibration(fresh_z, [fit])[:, 0]

    assert fit.kind == kind
    assert (fit.positives, fit.negatives) == (int(happened.sum()), int((1 - happened).sum()))
    assert ece(after, fresh[:, 0]) < 0.5 * ece(before, fresh[:, 0])
    assert brier_score_loss(fresh[:, 0], after) < brier_score_loss(fresh[:, 0], before)
    assert np.abs(after - expit(true[:, 0])).mean() < (0.06 if kind == "platt" else 0.02)


def test_platt_is_logistic_regression_on_his_targets() -> None:
    _, z, happened = simulated(400)
    positive = happened[:, 0] > 0.5
    high, low = (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2)
    # Each record twice, as a positive and as a negative, weighted by its target.
    weights = np.where(positive, high, low)
    doubled = np.r_[z, z], np.r_[np.ones(400), np.zeros(400)], np.r_[weights, 1 - weights]
    reference = LogisticRegression(C=1e12, tol=1e-12, max_iter=1000).fit(doubled[0], doubled[1], doubled[2])

    slope, intercept = platt(z[:, 0], positive)

    assert slope == pytest.approx(reference.coef_[0, 0], rel=1e-4)
    assert intercept == pytest.approx(reference.intercept_[0], rel=1e-4)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_platt_does_not_depend_on_the_unit_of_the_logits(scale: float) -> None:
    _, z, happened = simulated(200)

    slope, intercept = platt(scale * z[:, 0], happened[:, 0] > 0.5)

    assert (slope * scale, intercept) == pytest.approx(platt(z[:, 0], happened[:, 0] > 0.5), rel=1e-4)


def test_separable_classes_have_a_finite_calibration() -> None:
    z = np.r_[np.linspace(-5, -1, 20), np.linspace(1, 5, 20)][:, None]
    target = (z > 0).astype(np.float32)

    (fit,) = fit_calibration(z, target, known_of(target))

    assert fit.kind == "platt"
    assert 0.8 < apply_calibration(np.array([[5.0]]), [fit])[0, 0] < 0.999


@pytest.mark.parametrize("num_records", [60, 3000])
def test_logits_that_tell_the_opposite_become_nearly_the_prevalence(num_records: int) -> None:
    _, z, happened = simulated(num_records)

    (fit,) = fit_calibration(-z, happened, known_of(happened))
    p = apply_calibration(-z, [fit])

    assert fit.kind == "platt"
    assert fit.slope * z.std() == pytest.approx(0.01)
    assert p.mean() == pytest.approx(happened.mean(), abs=0.02)
    assert np.ptp(p) < 0.02
    assert roc_auc_score(happened, p) == pytest.approx(roc_auc_score(happened, -z), abs=1e-6)


@pytest.mark.parametrize("num_records", [600, 5000])
def test_isotonic_keeps_the_order(num_records: int) -> None:
    _, z, happened = simulated(num_records)
    z = z.astype(np.float32)
    area = roc_auc_score(happened, z)

    (fit,) = fit_calibration(z, happened, known_of(happened))

    assert fit.kind == "isotonic"
    assert len(fit.knots) > 5
    assert roc_auc_score(happened, fit.log_odds(z.astype(np.float64))) == pytest.approx(area, abs=1e-12)
    # Logits a millionth apart may share one float32.
    assert roc_auc_score(happened, apply_calibration(z, [fit])) == pytest.approx(area, abs=1e-6)
    coarse = z.round(2)
    exact = roc_auc_score(happened, coarse)
    assert roc_auc_score(happened, apply_calibration(coarse, [fit])) == pytest.approx(exact, abs=1e-12)


def test_knots_stand_for_the_steps_of_isotonic_regression() -> None:
    _, z, happened = simulated(3000)
    z = z[:, 0].round(1)  # With ties.
    step = IsotonicRegression().fit(z, happened[:, 0]).predict(z)

    knots = np.array(centred_isotonic(z, happened[:, 0] > 0.5))

    levels = np.unique(step)
    assert len(knots) == len(levels)
    np.testing.assert_allclose(knots[:, 0], [z[step == level].mean() for level in levels], atol=1e-9)
    np.testing.assert_allclose(knots[1:-1, 1], levels[1:-1], atol=1e-12)
    assert 0 < knots[0, 1] < knots[1, 1]
    assert knots[-2, 1] < knots[-1, 1] < 1


@pytest.mark.parametrize("seed", range(20))
def test_any_records_give_a_valid_calibration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = rng.choice([rng.normal(0, 3, (400, 1)), rng.integers(-2, 3, (400, 1)), rng.normal(0, 1e-6, (400, 1))])
    target = (rng.random((400, 1)) < expit(rng.choice([-1, 0, 3]) * z)).astype(np.float32)
    target[:3], target[3:6] = 0, 1

    for rows in (400, 40, 8):
        (fit,) = fit_calibration(z[:rows], target[:rows], known_of(target[:rows]))
        assert LabelCalibration.model_validate_json(fit.model_dump_json()) == fit


def test_few_records_and_unknown_ones() -> None:
    """Columns: no positive, four, five, many of which four are known."""
    _, z, happened = simulated(1000)
    z, target = np.repeat(z, 4, axis=1), np.zeros((1000, 4), np.float32)
    target[:4, 1], target[:5, 2], target[:, 3] = 1, 1, happened[:, 0]
    known = known_of(target)
    known[:, 3] = (happened[:, 0] == 0) | (np.cumsum(happened[:, 0]) <= 4)

    fits = fit_calibration(z, target, known)

    assert [fit.kind for fit in fits] == ["identity", "identity", "platt", "identity"]
    assert [fit.positives for fit in fits] == [0, 4, 5, 4]
    assert fits[3].negatives == int((happened == 0).sum())


def test_the_rarer_class_decides() -> None:
    _, z, happened = simulated(1000)
    target = np.ones_like(happened)
    target[:50] = happened[:50]

    (fit,) = fit_calibration(z, target, known_of(target))

    assert fit.kind == "platt"
    assert fit.negatives < 100 < fit.positives


def with_prevalence(prevalence: float, num_records: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact log-odds of records of two normal classes a unit apart, and their class: only prevalence differs."""
    rng = np.random.default_rng(seed)
    positive = rng.random(num_records) < prevalence
    x = rng.normal(np.where(positive, 1.0, 0.0))
    return x - 0.5, positive  # Log-likelihood ratio: the log-odds at a prevalence of one half.


@pytest.mark.parametrize("prevalence", [0.02, 0.3, 0.9])
def test_a_shift_of_prevalence_is_the_difference_of_log_odds(prevalence: float) -> None:
    log_odds, positive = with_prevalence(prevalence, 200_000, seed=1)

    shift = prior_shift(log_odds, positive.mean())

    assert shift == pytest.approx(logit(prevalence), abs=0.05)
    assert expit(log_odds + shift).mean() == pytest.approx(positive.mean(), abs=1e-9)


def test_a_shift_where_all_logits_are_equal() -> None:
    assert prior_shift(np.full(10, 3.0), 0.1) == pytest.approx(logit(0.1) - 3.0)


@pytest.mark.parametrize(
    "old",
    [
        LabelCalibration(),
        LabelCalibration(kind="platt", slope=0.5, intercept=1.0),
        LabelCalibration(kind="isotonic", knots=((-2.0, 0.05), (0.0, 0.5), (2.0, 0.8))),
    ],
    ids=lambda old: old.kind,
)
def test_few_positives_only_move_the_old_calibration(old: LabelCalibration) -> None:
    z = np.random.default_rng(0).normal(0, 2, (500, 1))
    target = np.zeros((500, 1), np.float32)
    target[:9] = 1

    (refit,) = refit_calibration(z, target, known_of(target), [old])

    assert refit.how == "shifted"
    assert (refit.calibration.positives, refit.calibration.negatives) == (9, 491)
    np.testing.assert_allclose(refit.calibration.log_odds(z) - old.log_odds(z), refit.shift, atol=1e-9)
    assert apply_calibration(z, [refit.calibration]).mean() == pytest.approx(9 / 500, abs=1e-6)


def test_what_cannot_be_refitted_stays_and_the_rest_is_fitted_anew() -> None:
    _, z, happened = simulated(1000)
    z = np.repeat(z, 4, axis=1)
    target = np.c_[np.zeros(1000), np.ones(1000), happened, happened].astype(np.float32)
    known = known_of(target)
    known[:, 3] = False
    old = [LabelCalibration(kind="platt", slope=2.0, intercept=float(k)) for k in range(4)]

    refits = refit_calibration(z, target, known, old)

    assert [refit.how for refit in refits] == ["kept", "kept", "refitted", "kept"]
    assert all(refits[k].calibration == old[k] for k in (0, 1, 3))
    assert refits[2].calibration == fit_calibration(z, target, known)[2]
