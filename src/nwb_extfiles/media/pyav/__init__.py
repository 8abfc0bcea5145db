"""What PyAV reads of videos: the only package that imports `av`, and only inside functions."""
