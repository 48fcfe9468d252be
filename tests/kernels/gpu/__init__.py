"""GPU kernels against the oracle: on the GPU where there is one, else in Triton's interpreter (tests/conftest.py)."""
