"""NWB files on disk, HDF5 and Zarr: what they refer to, read and edited without pynwb."""
