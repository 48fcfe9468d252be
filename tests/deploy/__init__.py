"""Deployment: images, chart, rules and dashboards, checked without a cluster."""
