"""Dashboards as code: a module each, made of the catalogue's metrics; deploy/generate.py writes them as JSON."""

from deploy.dashboards.inside import INSIDE
from deploy.dashboards.overview import OVERVIEW
from deploy.dashboards.panel import Json

DASHBOARDS: dict[str, Json] = {"baton-overview": OVERVIEW, "baton-inside": INSIDE}
"""By file name."""
