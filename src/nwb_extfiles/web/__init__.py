"""What is behind URLs: asked for, fetched, and the assets of DANDI."""
