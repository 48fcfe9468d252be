"""Documents name what there is: a map of rooms that stand, decisions that can be cited, commands that can be typed."""

import re
from pathlib import Path

from tests.architecture.source import ROOT, TOP_LEVEL, report

TEXT = (ROOT / "ARCHITECTURE.md").read_text()
ROW = re.compile(r"^\| `([^`]+)` \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
DECISION = re.compile(r"^- \*\*(\d+)\.\*\* (.*)$", re.MULTILINE)
WITHDRAWN = {83}
TOPS = ("clients", "deploy", "models", "examples", "scripts", "tests")
CITED = ("protos", "kernels", "common", "services", "clients", "deploy", "tests", "docs", "scripts")


def rooms() -> dict[str, list[str]]:
    """Of the map: each folder with what to read first in it."""
    begins, ends = TEXT.index("## The map"), TEXT.index("## The journey of a request")
    return {folder: re.findall(r"`([^`]+)`", first) for folder, first in ROW.findall(TEXT[begins:ends])}


def test_what_the_map_says_to_read_first_is_there():
    gone = [f"{folder}/{name}" for folder, names in rooms().items() for name in names if not _stands(folder, name)]
    assert not gone, report(gone, "the map is read before the code")


def _stands(folder: str, name: str) -> bool:
    return (ROOT / folder / name).exists()


def test_every_room_is_on_the_map():
    named = set(rooms())
    found = {
        str(path.parent.relative_to(ROOT))
        for top in ("common", "services")
        for path in (ROOT / top).glob("*/__init__.py")
    }
    missing = sorted((found | {"kernels", *TOPS}) - named)
    assert set(TOP_LEVEL) <= {name.partition("/")[0] for name in named}
    assert not missing, report(missing, "a room has a row on the map of ARCHITECTURE.md")


def test_each_decision_has_a_number_of_its_own():
    numbers = [int(number) for number, _ in DECISION.findall(TEXT)]
    assert len(numbers) > 100
    assert sorted([*numbers, *WITHDRAWN]) == list(range(1, max(numbers) + 1))


def test_a_decision_that_was_changed_names_a_later_one():
    for number, text in re.findall(r"^- \*\*(\d+)\.\*\* ((?:.|\n  )*)", TEXT, re.MULTILINE):
        for later in re.findall(r"\*\(Changed by (\d+)", " ".join(text.split())):
            assert int(later) > int(number), f"{number} says that {later} took its place"


def test_every_file_and_module_that_a_document_names_is_there():
    """By its path from the root, as `pytest tests/...` and `python -m ...` take it, or a link."""
    gone = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))
        for name in _named(page.read_text())
        if not _is_there(page.parent, name)
    ]
    assert not gone, report(gone, "a document is tried by typing what it says")


def _named(text: str) -> set[str]:
    paths = re.findall(r"\b(?:tests|common|services|kernels|deploy|docs|scripts|examples|clients)/[\w./-]*\w", text)
    modules = re.findall(r"python -m ((?:tests|common|services|kernels|deploy)\.[\w.]*\w)", text)
    links = re.findall(r"\]\(([\w./-]+)\)", text)
    return {*paths, *(module.replace(".", "/") for module in modules), *links}


def _is_there(folder: Path, name: str) -> bool:
    return any((start / f"{name}{ending}").exists() for start in (ROOT, folder) for ending in ("", ".py")) or bool(
        [*ROOT.glob(f"{name}*")]
    )


def test_what_a_decision_or_a_journey_cites_is_there():
    """Short, as it is said in the house: `worker/prefix_desk` is a file or a folder of that name in such a room."""
    standing = {
        f"/{path.relative_to(ROOT)}" for top in CITED for path in (ROOT / top).rglob("*") if path.suffix != ".pyc"
    }
    cited = {name for name in re.findall(r"`([a-z_]+(?:/[\w.]+)+)/?`", TEXT) if not name.startswith("baton/")}
    gone = [name for name in sorted(cited) if not any(path.endswith(_endings(name)) for path in standing)]
    assert cited
    assert not gone, report(gone, "a decision that cites what is gone is history")


def _endings(name: str) -> tuple[str, ...]:
    return tuple(f"/{name}{ending}" for ending in ("", ".py", ".h", ".cpp"))
