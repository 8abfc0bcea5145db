"""From a stored text to what will happen to its film. Nothing here changes anything on disk."""
