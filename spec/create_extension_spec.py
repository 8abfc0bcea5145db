"""Writes the schema of ndx-extfiles: ``python spec/create_extension_spec.py``. The tests see that it was run."""

from __future__ import annotations

import sys
from pathlib import Path

from pynwb.spec import NWBDatasetSpec, NWBGroupSpec, NWBNamespaceBuilder

import nwb_extfiles

NAME = "ndx-extfiles"


def column(name: str, dtype: str, doc: str, *, optional: bool = False) -> NWBDatasetSpec:
    """A column of the manifest, one value a row."""
    return NWBDatasetSpec(
        name=name, neurodata_type_inc="VectorData", dtype=dtype, doc=doc, quantity="?" if optional else 1
    )


MANIFEST = NWBGroupSpec(
    neurodata_type_def="ExternalFileManifest",
    neurodata_type_inc="DynamicTable",
    doc="The media files (videos, images) that objects of this NWB file refer to, one row for each reference.",
    datasets=[
        column("referring_object_id", "text", "The object_id of the object that refers to the file."),
        column(
            "referring_object_path",
            "text",
            "Path of that object in the NWB file, such as '/acquisition/behavior_video'.",
        ),
        column("field", "text", "The field that holds the reference, such as 'external_file'."),
        column("index", "int32", "Entry of the field, counted from 0."),
        column(
            "path",
            "text",
            "The reference as it is stored: a path relative to the folder of the NWB file, with forward slashes.",
        ),
        column(
            "original_name",
            "text",
            "Name that the file had before it was renamed, without its folders, such as 'mouse3_top.mp4'.",
        ),
        column("size_in_bytes", "int64", "Size of the file, in bytes."),
        column("sha256", "text", "SHA-256 of the content of the file, as 64 hexadecimal digits in lower case."),
        column("media_type", "text", "Media type (RFC 6838) by the suffix, such as 'video/mp4'; empty if not known."),
        column(
            "width",
            "int32",
            "Width of the image in pixels, as the container of the file states it; 0 where it is not known.",
            optional=True,
        ),
        column(
            "height",
            "int32",
            "Height of the image in pixels, as the container of the file states it; 0 where it is not known.",
            optional=True,
        ),
        column(
            "frame_count",
            "int64",
            "Number of frames, as the container of the file states it; 0 where it is not known.",
            optional=True,
        ),
        column(
            "frame_rate",
            "float64",
            "Frames per second, as the container of the file states it; NaN where it is not known.",
            optional=True,
        ),
        column(
            "original_sha256",
            "text",
            "SHA-256 of the file that was put into another container to make this one, where 'original_name' is the "
            "name of that; empty where the content is the original.",
            optional=True,
        ),
    ],
)

LAB_META_DATA = NWBGroupSpec(
    neurodata_type_def="ExternalFilesMetaData",
    neurodata_type_inc="LabMetaData",
    name="external_files",
    doc="What is known of the media files that belong to this NWB file and lie outside of it.",
    groups=[
        NWBGroupSpec(
            name="manifest", neurodata_type_inc="ExternalFileManifest", doc="The media files, one row a reference."
        )
    ],
)


def main(folder: Path) -> None:
    """Write the two files of the schema into a folder."""
    builder = NWBNamespaceBuilder(
        name=NAME,
        version=nwb_extfiles.__version__,
        doc="A record of the external media files that an NWB file refers to",
        author=["The developers of nwb-extfiles"],
        contact=["the issue tracker of nwb-extfiles"],
    )
    builder.include_namespace("core")
    for spec in (MANIFEST, LAB_META_DATA):
        builder.add_spec(f"{NAME}.extensions.yaml", spec)
    builder.export(f"{NAME}.namespace.yaml", outdir=str(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
