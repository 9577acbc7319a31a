"""Benchmarks: synthetic cells, stored inputs of each step, the tools' calls, figures of quality, bounds of the device."""
