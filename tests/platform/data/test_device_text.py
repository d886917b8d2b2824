"""Text around the traces tells the scale, and nothing of the record or of anybody."""

import re
from datetime import datetime

import numpy as np
import pytest

from vizecg.platform.data.printing.device_text import (
    MOST_CHARACTERS,
    MOST_COLUMNS,
    MOST_FOOTER_CHARACTERS,
    MOST_LINES,
    DeviceText,
    device_text,
    scale_text,
)
from vizecg.platform.data.printing.measurements import Measurements, random_measurements

SEEDS = range(400)
INTERPRETATION = re.compile(
    r"normal|sinus|rhythm|infarct|fibrillat|block|ischemi|hypertroph|tachy|brady|borderline|ecg\b|pace", re.IGNORECASE
)
MEASURED = Measurements(
    rate_bpm=76, pr_ms=None, qrs_ms=92, qt_ms=394, qtc_ms=454, p_axis_deg=None, axis_deg=-17, t_axis_deg=40
)


def text_of(seed: int, chest: float | None = None, measurements: Measurements | None = None) -> DeviceText:
    return device_text(
        np.random.default_rng(seed),
        paper_speed_mm_per_s=12.5,
        gain_mm_per_mv=10.0,
        chest_gain_mm_per_mv=chest,
        measurements=measurements,
    )


def lines_of(text: DeviceText) -> list[str]:
    return [line for column in text.header for line in column]


@pytest.mark.parametrize("chest", [None, 10.0, 2.5])
def test_footer_always_tells_speed_and_gains(chest: float | None) -> None:
    for footer in (*(text_of(seed, chest).footer for seed in SEEDS), scale_text(12.5, 10.0, chest)):
        assert re.search(r"\b12\.5 ?mm/s", footer), footer
        gains = set(re.findall(r"([\d.]+) ?mm/mV", footer))
        assert gains == {"10", "2.5" if chest == 2.5 else "10"}, footer


def test_default_footer_is_the_usual_one() -> None:
    assert scale_text(25, 10) == "25 mm/s   10 mm/mV"
    assert scale_text(50, 10, 5) == "50 mm/s   limb 10 mm/mV   chest 5 mm/mV"


def test_text_is_plain_fits_the_page_and_interprets_nothing() -> None:
    for seed in SEEDS:
        text = text_of(seed, 2.5, random_measurements(np.random.default_rng(seed)))
        assert len(text.header) <= MOST_COLUMNS and all(1 <= len(column) <= MOST_LINES for column in text.header)
        assert all(len(line) <= MOST_CHARACTERS for line in lines_of(text)), text
        assert len(text.footer) <= MOST_FOOTER_CHARACTERS, text.footer
        everything = "".join([*lines_of(text), text.footer])
        assert everything.isascii() and everything.isprintable()
        assert not INTERPRETATION.search(everything), everything


def test_who_was_recorded_stays_empty() -> None:
    fields = {
        line for seed in SEEDS for line in lines_of(text_of(seed)) if re.match("Name|Age|Sex|Height|Weight", line)
    }
    assert fields == {"Name:", "Age:", "Age:        Years", "Sex:", "Height:", "Weight:"}


def test_the_same_seed_prints_the_same_and_others_differ() -> None:
    assert hash(text_of(3)) == hash(text_of(3)) and text_of(3) == text_of(3)
    assert len({text_of(seed) for seed in SEEDS}) > 0.8 * len(SEEDS)
    ids = [found for seed in SEEDS for line in lines_of(text_of(seed)) if (found := re.match(r"ID ?:? (\d+)$", line))]
    assert len({found[1] for found in ids}) > 0.95 * len(ids) > 100


def test_measurements_are_one_more_column_and_change_nothing_else() -> None:
    for seed in SEEDS:
        without, with_them = text_of(seed), text_of(seed, measurements=MEASURED)
        (added,) = (column for column in with_them.header if column not in without.header)
        assert tuple(column for column in with_them.header if column != added) == without.header
        assert with_them.footer == without.footer
        numbers = re.findall(r"-?\d+|\*", " ".join(added))
        assert {"76", "*", "92", "394", "454", "-17", "40"} <= set(numbers), added


def test_dates_are_dates() -> None:
    forms = ("%Y-%m-%d %H:%M:%S", "%d-%b-%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%d.%m.%Y %H:%M")
    found = set()
    for line in (line.removeprefix("Date: ") for seed in SEEDS for line in lines_of(text_of(seed))):
        for form in forms:
            try:
                assert 1988 <= datetime.strptime(line, form).year <= 2025
                found.add(form)
            except ValueError:
                continue
    assert found == set(forms)
