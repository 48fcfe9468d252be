"""The tools of a request, as readers of calls need them."""

from collections.abc import Mapping
from typing import Any

Tools = Mapping[str, Mapping[str, Any]]
"""By name, the JSON schema of each one's arguments."""
