"""Running Baton elsewhere than on one machine.

Lives here: images (docker/), the chart (helm/baton), and what generates parts of it: its schema, dashboards and rules.
`python -m deploy.generate` writes the generated files; a test keeps them fresh.
May not: be imported by anything but tests.
"""
