"""``python -m nwb_extfiles`` is the command ``nwb-extfiles``."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="nwb-extfiles")
