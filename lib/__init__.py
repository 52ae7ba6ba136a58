"""The library behind the notebooks.

Imports run downwards: study, adapters, judges, data, then renderers, trellis, stats and profiles.
"""

import os

os.environ.setdefault("OPEN3D_DISABLE_WEB_VISUALIZER", "true")  # or it starts a server in every notebook
