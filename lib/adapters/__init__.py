"""What is taught to a finished generator: low-rank adapters on its flows, or the repair of the photo's condition."""
