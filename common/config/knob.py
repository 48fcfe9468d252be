"""One knob: what a configuration value is for, and which values it may take."""

from dataclasses import Field, dataclass, field
from typing import TypeVar

T = TypeVar("T")

_METADATA_KEY = "knob"


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """Everything about a value that its type does not say. Borders are inclusive; `owner` is the room that reads it."""

    owner: str
    reason: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    is_secret: bool = False


def knob(
    default: T,
    *,
    owner: str,
    reason: str,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    pattern: str = "",
    is_secret: bool = False,
) -> T:
    """A dataclass field with its default and its Knob."""
    description = Knob(
        owner=owner,
        reason=reason,
        unit=unit,
        minimum=minimum,
        maximum=maximum,
        choices=choices,
        pattern=pattern,
        is_secret=is_secret,
    )
    return field(default=default, metadata={_METADATA_KEY: description})


def knob_of(section_field: "Field[object]") -> Knob:
    """The knob of a section's field; a field without one is a bug of the section."""
    found = section_field.metadata.get(_METADATA_KEY)
    assert isinstance(found, Knob), f"{section_field.name}: a section field without a knob"
    return found
