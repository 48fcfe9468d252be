"""Goal: a prompt that was just routed is believed for a while, and never for ever or without bound."""

from common.directory.owners import OwnerTable
from common.directory.predictions import Predictions


def test_a_prediction_lasts_between_one_and_two_periods() -> None:
    table, predictions = OwnerTable(), Predictions(lasting_s=10.0)
    slot = table.open()
    predictions.add(slot, (1, 2), 100.0)
    predictions.add(slot, (3,), 109.0)
    for now in (100.0, 109.9, 110.0, 118.9):
        assert table.runs((1, 2), *predictions.tables(now)) == {slot: 2}, f"at {now}"
    assert table.runs((3,), *predictions.tables(119.0)) == {slot: 1}
    assert predictions.tables(130.1) == ()


def test_long_silence_forgets_everything_at_once() -> None:
    table, predictions = OwnerTable(), Predictions(lasting_s=10.0)
    predictions.add(table.open(), (1,), 0.0)
    assert predictions.tables(1e6) == ()


def test_there_are_never_more_than_two_generations_of_the_limit() -> None:
    table, predictions = OwnerTable(), Predictions(lasting_s=1e9, max_keys=100)
    slot = table.open()
    for start in range(0, 5000, 10):
        predictions.add(slot, range(start, start + 10), 1.0)
        assert len(predictions) <= 210
    assert table.runs((4999,), *predictions.tables(1.0)) == {slot: 1}
