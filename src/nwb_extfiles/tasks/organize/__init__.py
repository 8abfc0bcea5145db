"""`organize`: what NWB files have, where they go in a dandiset, and the plan of that, carried out."""
