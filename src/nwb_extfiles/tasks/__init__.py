"""What is done with finished NWB files: list, check, relocate, organize, restore."""
