"""How fast operators are on this machine's GPU, against what its memory and its matrix units can do.

    python -m kernels.bench [--only attention] [--repeats 30] [--out FILE] [--when 2026-11-21] [--miniature]

Lives here: `case.py`, an operator in one shape with its bound and its check; a file of cases per group of operators;
`ceilings.py`, what the device reaches in the same run; `stopwatch.py`; `report.py`, the figures as JSON and as a table;
`tune.py`, which writes kernels/gpu/tuned.json.
May not: import anything but torch, triton and kernels, so that a bare checkout runs it; print a time of an operator
whose check failed; be imported by what serves. Who may call: `baton bench kernels`, `python -m`, tests.
"""
