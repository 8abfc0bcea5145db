"""What videos are: the facts in their headers, and what the manifest of an NWB file says of them."""
