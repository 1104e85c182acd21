"""Measurements: cutplan and its peers side by side in one run.

    python -m benchmarks.gemm --json benchmarks/results/gemm-<device>.json
    python -m benchmarks.overhead --json benchmarks/results/overhead-<device>.json
    python -m benchmarks.readme

A clock, a temperature or a driver moves absolute times by per cents, so only times of one run are compared.
"""
