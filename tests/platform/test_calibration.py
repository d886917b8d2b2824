"""A calibration is a rising map, the same for a record alone and in any batch, and nonsense is refused."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.special import expit, logit

from vizecg.platform.calibration import LabelCalibration, apply_calibration

ISOTONIC = LabelCalibration(kind="isotonic", knots=((-3.0, 0.01), (-1.0, 0.2), (0.5, 0.25), (2.0, 0.9)))
ALL_KINDS = [
    LabelCalibration(),
    LabelCalibration(kind="temperature", slope=0.5),
    LabelCalibration(kind="platt", slope=2.0, intercept=-1.5),
    ISOTONIC,
    ISOTONIC.shifted(0.75, 3, 100),
]


def test_every_kind_is_what_it_says() -> None:
    z = np.array([[-4.0, -4.0, -4.0, -4.0, -4.0], [-2.0, -2.0, -2.0, -2.0, -2.0], [2.0, 2.0, 2.0, 2.0, 2.0]])

    p = apply_calibration(z, ALL_KINDS)

    assert p.dtype == np.float32
    halfway = expit((logit(0.01) + logit(0.2)) / 2)
    np.testing.assert_allclose(p[:, 0], expit([-4, -2, 2]), rtol=1e-6)
    np.testing.assert_allclose(p[:, 1], expit([-2, -1, 1]), rtol=1e-6)
    np.testing.assert_allclose(p[:, 2], expit([-9.5, -5.5, 2.5]), rtol=1e-6)
    np.testing.assert_allclose(p[:, 3], [expit(logit(0.01) - 1), halfway, 0.9], rtol=1e-6)
    np.testing.assert_allclose(logit(p[:, 4]) - logit(p[:, 3]), 0.75, atol=1e-5)


def test_without_calibrations_the_sigmoid() -> None:
    z = np.random.default_rng(0).normal(0, 4, (50, 3)).astype(np.float32)

    np.testing.assert_allclose(apply_calibration(z, []), 1 / (1 + np.exp(-z.astype(np.float64))), rtol=1e-6)


@pytest.mark.parametrize("calibration", ALL_KINDS, ids=lambda calibration: calibration.kind)
def test_order_is_kept_and_no_probability_is_sure(calibration: LabelCalibration) -> None:
    z = np.linspace(-6, 6, 4001)[:, None]
    extreme = np.array([[-1e4], [1e4], [-np.inf], [np.inf]], np.float32)

    p = apply_calibration(z, [calibration])[:, 0]

    assert (np.diff(p) > 0).all()
    assert ((apply_calibration(extreme, [calibration]) > 0) & (apply_calibration(extreme, [calibration]) < 1)).all()
    assert np.isnan(apply_calibration(np.array([[np.nan]]), [calibration])).all()


def test_a_record_has_the_same_bits_in_any_batch_and_layout() -> None:
    z = np.random.default_rng(0).normal(0, 4, (257, 5)).astype(np.float32)

    whole = apply_calibration(z, ALL_KINDS)

    for size in (1, 2, 3, 32, 100):
        parts = [apply_calibration(z[start : start + size], ALL_KINDS) for start in range(0, len(z), size)]
        assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(apply_calibration(np.asfortranarray(z), ALL_KINDS), whole)
    assert np.array_equal(apply_calibration(z[::-2], ALL_KINDS), whole[::-2])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "isotonic"}, "0 knots"),
        ({"kind": "isotonic", "knots": [(0, 0.5)]}, "1 knots"),
        ({"kind": "platt", "knots": [(0, 0.5), (1, 0.6)]}, "platt with 2 knots"),
        ({"kind": "isotonic", "knots": [(0, 0.5), (0, 0.6)]}, "do not rise"),
        ({"kind": "isotonic", "knots": [(0, 0.5), (1, 0.5)]}, "do not rise"),
        ({"kind": "isotonic", "knots": [(0, 0.5), (1, 0.4)]}, "do not rise"),
        ({"kind": "isotonic", "knots": [(0, 0.5), (1, 1.0)]}, "between 0 and 1"),
        ({"kind": "isotonic", "knots": [(0, -0.1), (1, 0.5)]}, "between 0 and 1"),
        ({"kind": "isotonic", "knots": [(0, 0.5), (float("inf"), 0.6)]}, "finite"),
        ({"kind": "isotonic", "slope": 2, "knots": [(0, 0.5), (1, 0.6)]}, "no slope"),
        ({"kind": "platt", "slope": 0}, "greater than 0"),
        ({"kind": "platt", "slope": -1}, "greater than 0"),
        ({"kind": "platt", "intercept": float("nan")}, "finite"),
        ({"kind": "temperature", "intercept": 1}, "no intercept"),
        ({"kind": "identity", "slope": 2}, "no slope"),
        ({"kind": "beta"}, "identity"),
        ({"note": "x"}, "Extra inputs"),
    ],
)
def test_nonsense_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LabelCalibration.model_validate(values)
