"""Plans carried out, all or nothing. Nothing here knows what an NWB file is."""
