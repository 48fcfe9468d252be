"""The door to the compiler: libraries appear whole, are found again, and their absence is a sentence, not an error."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from kernels import dispatch
from kernels.cpu import build, library
from kernels.cpu.variants import VARIANTS, usable_variants, variants_of_machine

PORTABLE = VARIANTS[-1]
needs_compiler = pytest.mark.skipif(build.find_compiler() is None, reason="no compiler on the path")


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No library anywhere yet."""
    monkeypatch.setattr(build, "library_folders", lambda: (tmp_path,))
    return tmp_path


@pytest.fixture
def one_small_source(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources that compile in a moment."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "small.cpp").write_text(
        'extern "C" long baton_abi() { return 1; }\nextern "C" long baton_start() { return 0; }\n'
    )
    monkeypatch.setattr(build, "SOURCES", folder)
    return folder


def test_the_best_variant_a_processor_can_run_comes_first():
    names = [variant.name for variant in usable_variants(frozenset({"avx2", "fma", "f16c", "sse2"}))]
    assert names == [name for name in ("avx2", "generic") if name in {each.name for each in variants_of_machine()}]
    assert [variant.name for variant in usable_variants(frozenset())] == ["generic"]


@needs_compiler
@pytest.mark.usefixtures("one_small_source")
def test_a_library_is_compiled_once_and_found_afterwards(empty_cache: Path, monkeypatch: pytest.MonkeyPatch):
    made = build.build(PORTABLE)
    assert made.parent == empty_cache
    monkeypatch.setattr(build, "_compile", lambda *parts: pytest.fail(f"compiled again: {parts}"))
    assert build.build(PORTABLE) == made
    assert [path.name for path in empty_cache.iterdir() if path.is_dir()] == []


@needs_compiler
@pytest.mark.usefixtures("empty_cache", "one_small_source")
def test_that_somebody_will_wait_for_a_compiler_is_said_before_and_only_then(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(library, "usable_variants", lambda: (PORTABLE,))
    monkeypatch.setattr(library, "load", cache(lambda: pytest.fail("nobody loads yet")))
    told = dispatch.outlook(dispatch.Kernels.AUTO)
    assert told is not None
    assert PORTABLE.name in told
    assert dispatch.outlook(dispatch.Kernels.TORCH) is None
    with monkeypatch.context() as without:
        without.setattr(build, "find_compiler", lambda: None)
        without.setattr(library, "find_compiler", lambda: None)
        assert library.outlook() is None
    build.build(PORTABLE)
    assert library.outlook() is None


@needs_compiler
@pytest.mark.usefixtures("empty_cache", "one_small_source")
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda library: library[: len(library) // 2], id="cut off"),
        pytest.param(lambda library: library[:4096] + bytes(4096) + library[8192:], id="a page of zeros"),
        pytest.param(lambda library: library[:-1] + bytes([library[-1] ^ 1]), id="a bit flipped"),
        pytest.param(lambda library: b"", id="nothing in it"),
    ],
)
def test_a_damaged_library_is_compiled_again(damage: Callable[[bytes], bytes]):
    made = build.build(PORTABLE)
    whole = made.read_bytes()
    made.write_bytes(damage(whole))
    assert build.find_library(PORTABLE) is None
    assert build.build(PORTABLE) == made
    assert len(made.read_bytes()) == len(whole)
    assert build.find_library(PORTABLE) == made


@needs_compiler
@pytest.mark.usefixtures("one_small_source")
def test_a_library_whose_seal_is_empty_is_none_and_one_without_a_seal_is_as_it_was(empty_cache: Path):
    made = build.build(PORTABLE)
    (written,) = empty_cache.glob("*.seal")
    written.write_text("")
    assert build.find_library(PORTABLE) is None
    written.unlink()
    assert build.find_library(PORTABLE) == made


@needs_compiler
@pytest.mark.usefixtures("empty_cache")
def test_a_changed_source_is_another_library(one_small_source: Path):
    first = build.build(PORTABLE)
    (one_small_source / "small.h").write_text("// another\n")
    assert build.find_library(PORTABLE) is None
    assert build.build(PORTABLE) != first


@needs_compiler
@pytest.mark.usefixtures("empty_cache", "one_small_source")
def test_without_a_compiler_a_library_made_elsewhere_is_taken(monkeypatch: pytest.MonkeyPatch):
    made = build.build(PORTABLE)
    monkeypatch.setattr(build, "find_compiler", lambda: None)
    assert build.build(PORTABLE) == made


@pytest.mark.usefixtures("empty_cache", "one_small_source")
def test_without_a_compiler_and_a_library_the_reason_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "find_compiler", lambda: None)
    library.load_variant.cache_clear()
    loaded = library.load_variant(PORTABLE)
    library.load_variant.cache_clear()
    assert loaded.native is None
    assert "g++" in loaded.reason


@needs_compiler
def test_a_source_that_does_not_compile_is_refused_with_the_compilers_words(empty_cache: Path, one_small_source: Path):
    (one_small_source / "small.cpp").write_text("not a program\n")
    with pytest.raises(build.CompileFailed, match="error"):
        build.build(PORTABLE)
    assert list(empty_cache.glob("*.so")) == []


@needs_compiler
@pytest.mark.usefixtures("empty_cache", "one_small_source")
def test_a_compiler_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "MAX_COMPILE_S", 0.001)
    with pytest.raises(build.CompileFailed, match="timed out"):
        build.build(PORTABLE)


def test_native_is_an_error_only_where_it_was_asked_for_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dispatch, "load", lambda: library.Loaded(native=None, reason="nothing here"))
    monkeypatch.setattr(dispatch, "_chosen", dispatch.Kernels.AUTO)
    assert dispatch.choose(dispatch.Kernels.AUTO) == "nothing here"
    assert dispatch.native() is None
    with pytest.raises(dispatch.NoNativeOperators, match="nothing here"):
        dispatch.choose(dispatch.Kernels.NATIVE)


def test_a_user_without_a_home_has_only_the_checkout(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "USER_CACHE", Path("~nobody-of-this-name/cache"))
    assert build.library_folders() == (build.CHECKOUT / "build" / "native",)
    monkeypatch.setattr(build, "CHECKOUT", Path("/nowhere"))
    assert build.find_library(PORTABLE) is None


@needs_compiler
@pytest.mark.usefixtures("one_small_source")
def test_a_folder_that_cannot_be_locked_is_a_reason_not_a_crash(empty_cache: Path):
    (empty_cache / ".lock").mkdir()
    with pytest.raises(build.CompileFailed, match="lock"):
        build.build(PORTABLE)


@pytest.mark.parametrize("option", ["--all", "--tests", None])
@pytest.mark.usefixtures("empty_cache")
def test_the_command_line_makes_what_it_was_asked_for(option: str | None, monkeypatch: pytest.MonkeyPatch):
    made: list[str] = []
    monkeypatch.setattr(build, "build", lambda variant: made.append(variant.name))
    monkeypatch.setattr("sys.argv", ["-", *([option] if option else [])])
    assert build.main() == 0
    here = [variant.name for variant in usable_variants()]
    machine = [variant.name for variant in variants_of_machine()]
    assert made == {"--all": machine, "--tests": [*here, "emulated_tiles"], None: here[:1]}[option]
