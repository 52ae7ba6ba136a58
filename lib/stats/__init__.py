"""Intervals, tests, power, agreement, bootstrap over objects, estimands and gates; nothing of judges or meshes."""
