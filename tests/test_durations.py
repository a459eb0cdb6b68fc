"""Lengths of time as people read them."""

import pytest

from soundreel.wording.durations import clock, duration, exactly, rough


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (0.04, "0.0 s"),
        (4.8125, "4.8 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (213.4, "3 min 33 s"),
        (2160, "36 min"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h"),
        (7830, "2 h 10 min"),
        (4_000_000, "1,111 h 7 min"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds: float, says: str) -> None:
    assert duration(seconds) == says


@pytest.mark.parametrize(("seconds", "says"), [(7.4, "0:07"), (213.0, "3:33"), (3599.7, "1:00:00"), (7325, "2:02:05")])
def test_a_clock_is_what_options_take(seconds: float, says: str) -> None:
    assert clock(seconds) == says


def test_an_exact_length_has_the_clock_from_a_minute_on() -> None:
    assert exactly(4.8125) == "4.812 s"
    assert exactly(213.0, digits=2) == "213.00 s (3:33)"


@pytest.mark.parametrize(
    ("seconds", "about"), [(0.001, 0.1), (0.44, 0.4), (12.34, 12), (567, 570), (2167, 2160), (7700, 7800)]
)
def test_an_estimate_has_no_digits_that_it_does_not_know(seconds: float, about: float) -> None:
    assert rough(seconds) == about
    assert rough(about) == about
