"""Reads the configuration: file, environment, `--set`; refuses whatever it does not know, all problems at once."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.config.config import Config, Origin
from common.config.consistency import inconsistencies
from common.config.schema import KEYS, SECTIONS, Value
from common.config.value import check, parse_text
from common.core.errors import StartupError

ENVIRONMENT_PREFIX = "BATON_"
MAX_FILE_BYTES = 1024 * 1024


@dataclass(slots=True)
class _Draft:
    """Values gathered so far. Writer: one call of `load`."""

    values: dict[str, Value] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def take(self, path: str, value: object, source: str, *, is_text: bool) -> None:
        """One value from one source; a later call wins."""
        key = KEYS.get(path)
        if key is None:
            self.problems.append(f"{source}: {unknown_key(path)}")
            return
        try:
            checked = parse_text(key, str(value)) if is_text else check(key, value)
        except ValueError as error:
            self.problems.append(f"{source}: {path}: {error}")
            return
        self.values[path] = checked
        self.sources[path] = source


def load(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    settings: Sequence[str] = (),
) -> Config:
    """The frozen configuration. `settings` are `section.key=value`, as after --set.

    Raises StartupError that names every unknown key (with the nearest known one) and every bad value by key path.
    """
    draft = _Draft()
    if file is not None:
        _take_file(draft, file)
    _take_environment(draft, environment or {})
    _take_settings(draft, settings)
    _refuse(draft.problems)
    config = _build(draft)
    _refuse(inconsistencies(config))
    return config


def unknown_key(path: str) -> str:
    """The complaint about a key that does not exist, with the nearest one that does: spelled almost alike, or of the
    same name elsewhere.
    """
    section, _, own_name = path.partition(".")
    if section in SECTIONS and not own_name:
        return f"{section} is a section: write [{section}], and its keys below"
    same_name = [key for key in KEYS if KEYS[key].name == own_name]
    near = difflib.get_close_matches(path, KEYS, n=1, cutoff=0.85) or same_name
    near = near or difflib.get_close_matches(path, KEYS, n=1, cutoff=0.5)
    if near:
        return f"unknown key {path}: did you mean {' or '.join(near)}?"
    if section in SECTIONS:
        names = ", ".join(key.name for key in KEYS.values() if key.section == section)
        return f"unknown key {path}: section {section} has {names}"
    return f"unknown key {path}: the sections are {', '.join(SECTIONS)}"


def _take_file(draft: _Draft, file: Path) -> None:
    source = f"file {file.name}"
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise StartupError(message=f"configuration file {file} cannot be read: {why}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise StartupError(message=f"configuration file {file} is larger than {MAX_FILE_BYTES} bytes")
    try:
        tables = tomllib.loads(raw.decode("utf-8-sig"))  # some editors begin a file with a mark
    except (ValueError, RecursionError) as error:
        raise StartupError(message=f"configuration file {file} is not valid TOML: {error}") from error
    for section, table in tables.items():
        if not isinstance(table, dict):
            draft.problems.append(f"{source}: {unknown_key(section)}")
            continue
        for name, value in table.items():
            draft.take(f"{section}.{name}", value, source, is_text=False)


def _take_environment(draft: _Draft, environment: Mapping[str, str]) -> None:
    """BATON_SECTION__KEY. Other names that begin with BATON_ belong to somebody else, unless they look like a typo."""
    for name in sorted(environment):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        section, separator, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        source = f"environment {name}"
        if separator:
            draft.take(f"{section}.{key}", environment[name], source, is_text=True)
        elif (path := section.replace("_", ".", 1)) in KEYS:
            spelled = f"{ENVIRONMENT_PREFIX}{path.replace('.', '__').upper()}"
            draft.problems.append(f"{source}: the section ends with two underscores, write {spelled}")


def _take_settings(draft: _Draft, settings: Sequence[str]) -> None:
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator:
            draft.problems.append(f"--set {path}: write section.key=value")
            continue
        draft.take(path.strip(), text.strip(), "--set", is_text=True)


def _build(draft: _Draft) -> Config:
    by_section: dict[str, dict[str, Value]] = {section: {} for section in SECTIONS}
    for path, value in draft.values.items():
        by_section[KEYS[path].section][KEYS[path].name] = value
    sections = {section: SECTIONS[section](**values) for section, values in by_section.items()}
    origins = tuple(Origin(key=path, source=draft.sources[path]) for path in KEYS if path in draft.sources)
    return Config(**sections, origins=origins)


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise StartupError(
            message="the configuration is refused:\n  " + "\n  ".join(problems),
            facts={"problems": str(len(problems))},
        )
