"""Objects, their photos and their corruptions."""
