"""The corpus: split by path, cleaned of what is not Python, and cut into tasks."""

from pathlib import Path

import pytest

from models.build.corpus import HELD_OUT, MAX_TASK_LINES, Share, read_sources, read_tasks, share_of


@pytest.mark.parametrize(
    ("path", "share"),
    [
        ("json/decoder.py", Share.HELD_OUT),
        ("json/encoder.py", Share.LIBRARY),
        ("test/test_json/test_decode.py", Share.TESTS),
        ("idlelib/idle_test/test_config.py", Share.TESTS),
        ("unittest/case.py", Share.LIBRARY),
    ],
)
def test_the_path_alone_decides_the_share(path: str, share: Share) -> None:
    """So every machine splits alike, whatever its Python version."""
    assert share_of(path) is share


def test_every_held_out_file_is_in_this_python() -> None:
    """The held-out set is whole, and reading it does not touch the rest."""
    sources = read_sources(frozenset({Share.HELD_OUT}))
    assert {source.path for source in sources} == HELD_OUT
    assert {source.share for source in sources} == {Share.HELD_OUT}


def test_broken_empty_and_foreign_files_are_left_out(tmp_path: Path) -> None:
    """Only valid UTF-8 Python outside of third-party and table folders is read."""
    files = {
        "good.py": b"x = 1\n",
        "broken.py": b"def (:\n",
        "latin.py": b"x = '\xe9'\n",
        "empty.py": b"",
        "site-packages/other.py": b"x = 2\n",
        "encodings/table.py": b"x = 3\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert [source.path for source in read_sources(folder=tmp_path)] == ["good.py"]


def test_a_task_is_a_documented_function_with_its_first_sentence(tmp_path: Path) -> None:
    """The answer is dedented; undocumented and very long functions make no task."""
    long_body = "        pass\n" * MAX_TASK_LINES
    (tmp_path / "shapes.py").write_text(
        'class Square:\n    def area(self):\n        """Return the area.\n\n        In square metres.\n        """\n'
        "        return self.side**2\n\n    def bare(self):\n        return 1\n\n"
        f'    def endless(self):\n        """Too long."""\n{long_body}'
    )
    (task,) = read_tasks(read_sources(folder=tmp_path))
    assert task.request == "Write a Python function named area. Return the area."
    assert task.answer.startswith('def area(self):\n    """Return')
    assert task.answer.endswith("return self.side**2\n")
