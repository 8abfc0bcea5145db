"""`check`: what is wrong with references, media and folders, and how it is reported."""
