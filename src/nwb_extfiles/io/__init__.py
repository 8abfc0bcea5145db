"""Reading, writing and exporting with pynwb and hdmf-zarr."""
