"""The stop that completes first ends the text, wherever the pieces are cut."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from common.text.stops import Scanned, StopScanner

stops = st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4)


def reference(text: str, stops: list[str]) -> Scanned:
    """First end wins, then list order."""
    for end in range(1, len(text) + 1):
        for stop in stops:
            if text[:end].endswith(stop):
                return Scanned(text=text[: end - len(stop)], stop=stop)
    return Scanned(text=text)


@given(st.lists(st.text("abc", max_size=5), max_size=12), stops)
def test_any_cut_gives_what_the_whole_text_gives(pieces: list[str], stops: list[str]) -> None:
    scanner = StopScanner(stops)
    text, stop = "", None
    for piece in pieces:
        scanned = scanner.push(piece)
        text, stop = text + scanned.text, scanned.stop
        if stop is not None:
            break
    if stop is None:
        text += scanner.flush()
    assert Scanned(text=text, stop=stop) == reference("".join(pieces), stops)


@given(st.text("abc", max_size=30), stops)
def test_only_what_may_become_a_stop_string_is_held_back(text: str, stops: list[str]) -> None:
    scanner = StopScanner(stops)
    scanned = scanner.push(text)
    if scanned.stop is not None:
        return
    held = text[len(scanned.text) :]
    assert len(held) < max(map(len, stops))
    assert not held or any(stop.startswith(held) for stop in stops)


def test_a_stop_string_that_repeats_itself_is_found_where_it_began_amid_another_try() -> None:
    """A try that fails late goes on from within: behind "aaba", "aabaaaa" begins amid what looked like it already."""
    for stop in ("".join(letters) for letters in itertools.product("ab", repeat=7)):
        for size in range(6):
            for before in itertools.product("ab", repeat=size):
                text = "".join(before) + stop
                assert StopScanner([stop]).push(text) == Scanned(text=text[: text.index(stop)], stop=stop)


def test_a_tie_goes_to_the_first_of_the_list() -> None:
    assert StopScanner(["END", "THE END"]).push("THE END") == Scanned(text="THE ", stop="END")
    assert StopScanner(["THE END", "END"]).push("THE END") == Scanned(text="", stop="THE END")


def test_a_shorter_stop_inside_a_longer_one_completes_first() -> None:
    assert StopScanner(["abcd", "bc"]).push("xabcd") == Scanned(text="xa", stop="bc")


def test_the_stop_string_stays_when_asked_for() -> None:
    scanner = StopScanner(["END"], include_stop=True)
    assert scanner.push("a E") == Scanned(text="a ")
    assert scanner.push("ND b") == Scanned(text="END", stop="END")


def test_a_stop_that_completed_too_early_is_let_through_and_the_next_one_counts() -> None:
    scanner = StopScanner(["aa"])
    assert scanner.push("xaa", may_stop=False) == Scanned(text="xa")
    assert scanner.push("b").text == "ab"
    assert scanner.push("aa") == Scanned(text="", stop="aa")


def test_without_stop_strings_nothing_is_held() -> None:
    assert StopScanner([]).push("abc") == Scanned(text="abc")
