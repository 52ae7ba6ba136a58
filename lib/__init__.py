"""The library behind the notebooks.

Imports run downwards: study, adapters, judges, data, then renderers, trellis, stats and profiles.
"""
