"""Videos and images: the facts in their headers, and the manifest of an NWB file."""
