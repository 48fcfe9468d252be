"""What the operator asked for: one file, the environment and `--set`, read once into frozen sections.

Lives here: the sections with their knobs, the loader, the printable table with origins, the door to the environment.
May not: know a service, measure the machine (what was measured is not configuration), be written to after start.
Who may call: composition roots (`app`, the command line) load; rooms receive the section they need as a value.

Precedence, weakest first: default, TOML file, environment (`BATON_SECTION__KEY`), `--set section.key=value`.
"""
