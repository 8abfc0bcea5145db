"""From a stored text to what will happen to its video. Nothing here changes anything on disk."""
