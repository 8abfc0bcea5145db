"""With the real NeuroConv: converters, single interfaces, pipes, append mode, and code that cannot be changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import imageio_ffmpeg
import numpy as np
import pytest
from helpers import assert_resolves, digest, play, stored_paths, tree, write_nwb
from makers import quiet

from nwb_extfiles import ExternalFilesError, ExternalFilesWarning
from nwb_extfiles.errors import MissingMediaError, RelocationRefusedError
from nwb_extfiles.neuroconv import RelocateMediaMixin, relocating_backends

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
neuroconv = pytest.importorskip("neuroconv")

from neuroconv import ConverterPipe, NWBConverter  # noqa: E402
from neuroconv.basedatainterface import BaseDataInterface  # noqa: E402
from neuroconv.datainterfaces import ExternalVideoInterface  # noqa: E402
from neuroconv.tools.nwb_helpers import (  # noqa: E402
    BACKEND_NWB_IO,
    configure_backend,
    get_default_backend_configuration,
)

ACQUISITION = "acquisition/{}/external_file"
BEHAVIOR = "processing/behavior/{}/external_file"


class PoseInterface(BaseDataInterface):
    """Writes what converters of pose trackers write: a PoseEstimation with the absolute path of its video."""

    def __init__(self, file_path: str) -> None:
        super().__init__(file_path=file_path)

    def add_to_nwbfile(self, nwbfile: Any, metadata: dict[str, Any] | None = None) -> None:
        from ndx_pose import PoseEstimation, PoseEstimationSeries
        from neuroconv.tools.nwb_helpers import get_module

        nose = PoseEstimationSeries(
            name="nose", description="nose", data=np.zeros((5, 2)), unit="pixels", reference_frame="corner", rate=25.0,
            confidence=np.ones(5),
        )  # fmt: skip
        pose = PoseEstimation(
            pose_estimation_series=[nose], description="a pose", scorer="a net", source_software="a program",
            original_videos=[str(Path(self.source_data["file_path"]).absolute())],
            dimensions=np.array([[64, 48]], dtype="uint16"),
        )  # fmt: skip
        get_module(nwbfile, "behavior", "behavior").add(pose)


class Lab(NWBConverter):
    data_interface_classes = dict(
        Top=ExternalVideoInterface, Side=ExternalVideoInterface, Scope=ExternalVideoInterface, Pose=PoseInterface
    )


class RelocatingLab(RelocateMediaMixin, Lab):
    pass


@pytest.fixture
def recordings(tmp_path: Path, videos: list[Path]) -> dict[str, list[Path]]:
    """The videos of one session: one from above, two from the side, and 30 of a miniscope."""
    folder = tmp_path / "raw"
    (folder / "scope").mkdir(parents=True)
    top = [Path(shutil.copy(videos[0], folder / "top.avi"))]
    side = [Path(shutil.copy(videos[number], folder / f"side{number}.avi")) for number in (1, 2)]
    scope = [Path(shutil.copy(videos[3 + number % 5], folder / "scope" / f"{number}.avi")) for number in range(30)]
    return dict(top=top, side=side, scope=scope)


def source_data(recordings: dict[str, list[Path]]) -> dict[str, Any]:
    def video(name: str, paths: list[Path]) -> dict[str, Any]:
        return dict(file_paths=[str(path) for path in paths], video_name=name)

    return dict(
        Top=video("top", recordings["top"]),
        Side=video("side", recordings["side"]),
        Scope=video("scope", recordings["scope"]),
        Pose=dict(file_path=str(recordings["top"][0])),
    )


def options(converter: NWBConverter) -> dict[str, Any]:
    for name in ("Side", "Scope"):
        converter.data_interface_objects[name]._starting_time = 0.0
    return dict(Side=dict(parent_container="processing/behavior"))


def metadata(converter: Any) -> Any:
    found = converter.get_metadata()
    found["NWBFile"].update(session_start_time=datetime(2024, 1, 1, tzinfo=UTC), session_id="s1")
    found["Subject"] = dict(subject_id="m1", species="Mus musculus", sex="F", age="P90D")
    return found


def run(cls: type[NWBConverter], nwb_path: Path, recordings: dict[str, list[Path]], **kwargs: Any) -> Any:
    converter = cls(source_data(recordings))
    with quiet():
        converter.run_conversion(
            nwbfile_path=nwb_path, metadata=metadata(converter), conversion_options=options(converter), **kwargs
        )
    return converter


def assert_in_place(nwb_path: Path, recordings: dict[str, list[Path]]) -> None:
    for dataset, videos in (
        (ACQUISITION.format("top"), recordings["top"]),
        (BEHAVIOR.format("side"), recordings["side"]),
        (ACQUISITION.format("scope"), recordings["scope"]),
        ("processing/behavior/PoseEstimation/original_videos", recordings["top"]),
    ):
        paths = stored_paths(nwb_path, dataset)
        assert len(paths) == len(videos)
        for stored, video in zip(paths, videos, strict=True):
            assert stored.startswith(f"{nwb_path.stem}/")
            assert digest(nwb_path.parent / stored) == digest(video)
    assert play(nwb_path.parent / stored_paths(nwb_path, ACQUISITION.format("top"))[0]) == 10


def compression(nwb_path: Path) -> dict[str, Any]:
    found = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("specifications"):
            found[name] = (item.chunks, item.compression, item.compression_opts)

    with h5py.File(nwb_path) as file:
        file.visititems(visit)
    return found


@pytest.mark.parametrize("mode", ["symlink", "copy"])
def test_converter(tmp_path: Path, recordings: dict[str, list[Path]], mode: str) -> None:
    nwb_path = tmp_path / "dandiset" / "sub-m1" / "sub-m1_ses-s1.nwb"
    converter = run(RelocatingLab, nwb_path, recordings, relocate_media=True, media_mode=mode)
    assert_in_place(nwb_path, recordings)
    assert len(converter.relocation.relocations) == 34
    assert all(path.is_symlink() == (mode == "symlink") for path in nwb_path.with_suffix("").iterdir())


def test_converter_writes_as_neuroconv_does(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    """Without the argument, nothing differs. With it, only the stored paths differ."""
    plain, ours = tmp_path / "plain" / "a.nwb", tmp_path / "ours" / "a.nwb"
    plain.parent.mkdir()
    ours.parent.mkdir()
    run(Lab, plain, recordings)
    run(RelocatingLab, ours, recordings)
    dataset = ACQUISITION.format("scope")
    assert stored_paths(ours, dataset) == stored_paths(plain, dataset)
    run(RelocatingLab, ours, recordings, overwrite=True, relocate_media=True)
    assert compression(ours) == compression(plain)


def test_class_attributes_are_defaults(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    class Always(RelocatingLab):
        relocate_media = True
        media_mode = "hardlink"

    nwb_path = tmp_path / "a.nwb"
    run(Always, nwb_path, recordings)
    assert_in_place(nwb_path, recordings)
    assert all(path.stat().st_nlink > 1 for path in nwb_path.with_suffix("").iterdir())


def test_interface_and_pipe(tmp_path: Path, recordings: dict[str, list[Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A single interface with a path relative to the working directory, and a pipe of interfaces."""

    class Video(RelocateMediaMixin, ExternalVideoInterface):
        pass

    class Pipe(RelocateMediaMixin, ConverterPipe):
        pass

    monkeypatch.chdir(tmp_path / "raw")
    video = Video(file_paths=["top.avi"], video_name="top")
    with quiet():
        video.run_conversion(nwbfile_path="../out/one.nwb", metadata=metadata(video), relocate_media=True)
    stored = stored_paths(tmp_path / "out" / "one.nwb", ACQUISITION.format("top"))[0]
    assert digest(tmp_path / "out" / stored) == digest(recordings["top"][0])
    pipe = Pipe(data_interfaces=dict(a=video))
    with quiet():
        pipe.run_conversion(nwbfile_path="../out/two.nwb", metadata=metadata(pipe), relocate_media=True)
    assert stored_paths(tmp_path / "out" / "two.nwb", ACQUISITION.format("top"))[0].startswith("two/")


def test_append_to_existing_file(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    nwb_path = tmp_path / "a.nwb"

    class Video(RelocateMediaMixin, ExternalVideoInterface):
        pass

    first = Video(file_paths=[recordings["top"][0]], video_name="top")
    with quiet():
        first.run_conversion(nwbfile_path=nwb_path, metadata=metadata(first), relocate_media=True)
        before = tree(tmp_path / "a")
        second = Video(file_paths=[recordings["side"][0]], video_name="side")
        second.run_conversion(nwbfile_path=nwb_path, append_on_disk_nwbfile=True, relocate_media=True)
    for name, video in (("top", recordings["top"][0]), ("side", recordings["side"][0])):
        (stored,) = stored_paths(nwb_path, ACQUISITION.format(name))
        assert stored.startswith("a/")
        assert digest(tmp_path / stored) == digest(video)
    assert before.items() <= tree(tmp_path / "a").items()


class Video(RelocateMediaMixin, ExternalVideoInterface):
    """An interface whose video is relocated if `relocate_media` is set."""


def append_video(video: Path | str, nwb_path: Path, **kwargs: Any) -> Video:
    video = Video(file_paths=[video], video_name="new")
    with quiet():
        video.run_conversion(nwbfile_path=nwb_path, append_on_disk_nwbfile=True, relocate_media=True, **kwargs)
    return video


@pytest.mark.parametrize("there", [True, False], ids=["there", "missing"])
def test_append_from_a_folder_with_a_video_of_the_same_name(
    tmp_path: Path, videos: list[Path], monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """Existing paths are relative to the file. Only new ones can be relative to the working directory."""
    nwb_path = write_nwb(tmp_path / "nwb" / "a.nwb", ["video.avi"])
    working_folder = tmp_path / "today"
    working_folder.mkdir()
    shutil.copy(videos[1], working_folder / "video.avi")
    shutil.copy(videos[2], working_folder / "new.avi")
    monkeypatch.chdir(working_folder)
    if there:
        shutil.copy(videos[0], tmp_path / "nwb" / "video.avi")
        append_video("new.avi", nwb_path, media_mode="copy")
        assert_resolves(nwb_path, videos[:1])
        assert_resolves(nwb_path, videos[2:3], ACQUISITION.format("new"))
    else:
        with pytest.raises(MissingMediaError, match=r"video\.avi"):
            append_video("new.avi", nwb_path, media_mode="copy")
        assert stored_paths(nwb_path) == ["video.avi"]


@pytest.mark.parametrize("how", ["append", "overwrite"])
def test_conversion_after_killed_relocation(tmp_path: Path, videos: list[Path], how: str) -> None:
    """The interrupted edit is undone before NeuroConv writes."""
    shutil.copy(videos[0], tmp_path / "video.avi")
    nwb_path = write_nwb(tmp_path / "a.nwb", ["video.avi"])
    code = (
        "import os, sys\nfrom nwb_extfiles.disk import journal; from nwb_extfiles import relocate\n"
        "journal._write_at = lambda *rest: os._exit(9)\nrelocate(sys.argv[1])"
    )
    assert subprocess.run([sys.executable, "-c", code, nwb_path], check=False).returncode == 9
    if how == "append":
        append_video(videos[1], nwb_path)
        assert_resolves(nwb_path, videos[:1])
    else:
        video = Video(file_paths=[videos[1]], video_name="new")
        with quiet():
            video.run_conversion(nwbfile_path=nwb_path, metadata=metadata(video), overwrite=True, relocate_media=True)
    assert_resolves(nwb_path, videos[1:2], ACQUISITION.format("new"))
    assert not list(tmp_path.glob(".nwb-extfiles-*"))


def test_symlinked_nwb_file_is_refused_before_writing(tmp_path: Path, videos: list[Path]) -> None:
    write_nwb(tmp_path / "a.nwb", ["https://example.org/video.avi"])
    (tmp_path / "link.nwb").symlink_to("a.nwb")
    before = tree(tmp_path)
    with pytest.raises(RelocationRefusedError, match="symbolic link"):
        append_video(videos[0], tmp_path / "link.nwb")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("base", [ExternalVideoInterface, NWBConverter, ConverterPipe])
def test_mixin_must_come_first(base: type) -> None:
    """After NeuroConv's class, the mixin would have no effect, and class attributes would be silently ignored."""
    with pytest.raises(TypeError, match="name RelocateMediaMixin before it"):
        type("Wrong", (base, RelocateMediaMixin), {"relocate_media": True})
    type("Right", (RelocateMediaMixin, base), {"run_conversion": lambda self: None})
    logging = type("Logging", (), {"run_conversion": lambda self, *args: super(logging, self).run_conversion(*args)})
    type("RightToo", (logging, RelocateMediaMixin, base), {})


def test_failed_conversion_relocates_nothing(tmp_path: Path, videos: list[Path]) -> None:
    nwb_path = write_nwb(tmp_path / "a.nwb", ["https://example.org/video.avi"])
    video = append_video(videos[0], nwb_path)
    assert video.relocation is not None
    with quiet(), pytest.raises(ValueError, match="exists"):
        video.run_conversion(nwbfile_path=nwb_path, metadata=metadata(video), relocate_media=True)
    assert video.relocation is None


def test_missing_video_is_reported_and_hint_works(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    from nwb_extfiles import relocate

    class LosesItsVideo(PoseInterface):
        def add_to_nwbfile(self, *args: Any, **kwargs: Any) -> None:
            super().add_to_nwbfile(*args, **kwargs)
            Path(self.source_data["file_path"]).rename(tmp_path / "hidden.avi")

    class Losing(RelocateMediaMixin, NWBConverter):
        data_interface_classes = dict(Pose=LosesItsVideo)

    converter = Losing(dict(Pose=dict(file_path=str(recordings["top"][0]))))
    nwb_path = tmp_path / "a.nwb"
    with quiet(), pytest.raises(MissingMediaError, match=r"original_videos\[0\]"):
        converter.run_conversion(nwbfile_path=nwb_path, metadata=metadata(converter), relocate_media=True)
    assert stored_paths(nwb_path, "processing/behavior/PoseEstimation/original_videos") == [str(recordings["top"][0])]
    (tmp_path / "hidden.avi").rename(recordings["top"][0])
    relocate(nwb_path)
    assert stored_paths(nwb_path, "processing/behavior/PoseEstimation/original_videos")[0].startswith("a/")


def test_arguments_are_validated_first(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    for arguments in (dict(media_mode="copy"), dict(relocate_media=True, media_mode="nonsense")):
        with pytest.raises(ValueError, match=r"media_mode|nonsense"):
            run(RelocatingLab, tmp_path / "a.nwb", recordings, **arguments)
    assert not (tmp_path / "a.nwb").exists()
    with pytest.raises(ExternalFilesError, match="nwbfile_path"):
        RelocatingLab(source_data(recordings)).run_conversion(relocate_media=True)


def test_write_then_relocate(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    """The recipe of the documentation: NeuroConv makes and configures, our IO writes."""
    from nwb_extfiles import NWBExtFilesHDF5IO

    converter = Lab(source_data(recordings))
    nwb_path = tmp_path / "dandiset" / "a.nwb"
    with quiet():
        nwbfile = converter.create_nwbfile(metadata=metadata(converter), conversion_options=options(converter))
        configure_backend(nwbfile, get_default_backend_configuration(nwbfile, backend="hdf5"))
        with NWBExtFilesHDF5IO(nwb_path, "w") as io:
            io.write(nwbfile, relocate_media=True, media_mode="copy")
    assert_in_place(nwb_path, recordings)
    plain = tmp_path / "plain.nwb"
    run(Lab, plain, recordings)
    assert compression(nwb_path) == compression(plain)


@pytest.fixture
def backends() -> Iterator[dict[str, type]]:
    before = dict(BACKEND_NWB_IO)
    yield before
    assert before == BACKEND_NWB_IO


def test_relocating_context(tmp_path: Path, recordings: dict[str, list[Path]], backends: dict[str, type]) -> None:
    nwb_path = tmp_path / "a.nwb"
    with relocating_backends("copy"):
        run(Lab, nwb_path, recordings)
        video = ExternalVideoInterface(file_paths=[recordings["side"][0]], video_name="again")
        with quiet():
            video.run_conversion(nwbfile_path=nwb_path, append_on_disk_nwbfile=True)
    assert_in_place(nwb_path, recordings)
    (stored,) = stored_paths(nwb_path, ACQUISITION.format("again"))
    assert digest(tmp_path / stored) == digest(recordings["side"][0])


def test_relocating_context_fails_atomically(
    tmp_path: Path, recordings: dict[str, list[Path]], backends: dict[str, type]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ExternalFilesError), relocating_backends(media_options=dict(within=[tmp_path / "elsewhere"])):
        run(Lab, tmp_path / "a.nwb", recordings)
    assert not (tmp_path / "a.nwb").exists()


def test_overlapping_contexts_end_in_any_order(backends: dict[str, type]) -> None:
    """As in several threads."""
    first, second, third = (relocating_backends(mode) for mode in ("copy", "symlink", "move"))
    first.__enter__()
    only_first = dict(BACKEND_NWB_IO)
    second.__enter__()
    both = dict(BACKEND_NWB_IO)
    first.__exit__(None, None, None)
    assert both == BACKEND_NWB_IO
    third.__enter__()
    third.__exit__(None, None, None)
    assert both == BACKEND_NWB_IO
    second.__exit__(None, None, None)
    assert backends == BACKEND_NWB_IO
    assert all(entries.keys() == backends.keys() for entries in (only_first, both))


def test_later_patches_by_others_survive_context(backends: dict[str, type]) -> None:
    try:
        with relocating_backends():
            BACKEND_NWB_IO.update(hdf5=int, other=str)
        assert dict(backends, hdf5=int, other=str) == BACKEND_NWB_IO
    finally:
        BACKEND_NWB_IO.clear()
        BACKEND_NWB_IO.update(backends)


# ------------------------------------------------------------------------ Zarr


def test_zarr(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    from zarr_makers import assert_leads_to

    store = tmp_path / "dandiset" / "a.nwb.zarr"
    run(RelocatingLab, store, recordings, backend="zarr", relocate_media=True, media_mode="copy")
    assert_leads_to(store, recordings["top"], ACQUISITION.format("top"))
    assert_leads_to(store, recordings["scope"], ACQUISITION.format("scope"))
    assert_leads_to(store, recordings["side"], BEHAVIOR.format("side"))


def test_zarr_in_relocating_context(
    tmp_path: Path, recordings: dict[str, list[Path]], backends: dict[str, type]
) -> None:
    from zarr_makers import assert_leads_to

    with relocating_backends("symlink"):
        run(Lab, tmp_path / "a.nwb.zarr", recordings, backend="zarr")
    assert_leads_to(tmp_path / "a.nwb.zarr", recordings["top"], ACQUISITION.format("top"))
    assert (tmp_path / "a").is_dir()


def test_zarr_append(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    from zarr_makers import assert_leads_to

    class Video(RelocateMediaMixin, ExternalVideoInterface):
        relocate_media = True

    store = tmp_path / "a.nwb.zarr"
    first = Video(file_paths=[recordings["top"][0]], video_name="top")
    with quiet():
        first.run_conversion(nwbfile_path=store, metadata=metadata(first), backend="zarr")
        second = Video(file_paths=[recordings["side"][0]], video_name="side")
        second.run_conversion(nwbfile_path=store, append_on_disk_nwbfile=True)
    assert_leads_to(store, recordings["top"], ACQUISITION.format("top"))
    assert_leads_to(store, recordings["side"][:1], ACQUISITION.format("side"))


def test_neuroconv_versions_that_write_relative_paths(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    """Newer versions of NeuroConv make the paths relative to the NWB file right before they write."""
    from helpers import set_paths

    class WritesRelativePaths(ExternalVideoInterface):
        def run_conversion(self, nwbfile_path: Path, **kwargs: Any) -> None:
            super().run_conversion(nwbfile_path, **kwargs)
            dataset = ACQUISITION.format("top")
            relative = [os.path.relpath(stored, nwbfile_path.parent) for stored in stored_paths(nwbfile_path, dataset)]
            assert relative == ["../raw/top.avi"]
            set_paths(nwbfile_path, dataset, relative)

    class Video(RelocateMediaMixin, WritesRelativePaths):
        pass

    video = Video(file_paths=recordings["top"], video_name="top")
    nwb_path = tmp_path / "out" / "a.nwb"
    with quiet():
        video.run_conversion(nwbfile_path=nwb_path, metadata=metadata(video), relocate_media=True, media_mode="copy")
    (stored,) = stored_paths(nwb_path, ACQUISITION.format("top"))
    assert stored.startswith("a/")
    assert digest(nwb_path.parent / stored) == digest(recordings["top"][0])


# ------------------------------------------------------- videos compared with their series


class CheckedVideo(RelocateMediaMixin, ExternalVideoInterface):
    check_videos = "error"


class CheckedLab(RelocatingLab):
    check_videos = "error"


def two_videos(recordings: dict[str, list[Path]], cls: type = CheckedVideo) -> Any:
    video = cls(file_paths=recordings["side"], video_name="side")
    video.set_aligned_starting_time(0.0)
    return video


def warned(record: list[warnings.WarningMessage]) -> list[str]:
    return [str(one.message) for one in record if isinstance(one.message, ExternalFilesWarning)]


def test_right_videos_are_written_as_ever(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        run(CheckedLab, tmp_path / "a.nwb", recordings, relocate_media=True, media_mode="copy")
        two_videos(recordings).run_conversion(tmp_path / "b.nwb", metadata=metadata(two_videos(recordings)))
    assert_in_place(tmp_path / "a.nwb", recordings)
    assert stored_paths(tmp_path / "b.nwb", ACQUISITION.format("side")) == [str(path) for path in recordings["side"]]
    assert warned(record) == []


def test_wrong_starting_frames_are_refused_before_writing(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    """Those are an option of the interface, and its schema is that of NeuroConv still."""
    video = two_videos(recordings)
    what = r"out/a.nwb: ImageSeries '/acquisition/side': starting_frame \[0, 7\] gives .* 7 frames, but it has 10"
    with quiet(), pytest.raises(ExternalFilesError, match=what) as caught:
        video.run_conversion(
            tmp_path / "out" / "a.nwb", metadata=metadata(video), starting_frames=[0, 7], relocate_media=True
        )
    assert caught.value.hint == "store starting_frame=[0, 10]"
    assert not list(tmp_path.rglob("*.nwb"))
    assert "add_to_nwbfile" not in vars(video)


def test_wrong_videos_are_warned_about_as_asked(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    """A call decides otherwise than its class."""
    video = two_videos(recordings)
    with pytest.warns(ExternalFilesWarning, match=r"'/acquisition/side': its starting_frame does not increase"):
        video.run_conversion(tmp_path / "a.nwb", metadata=metadata(video), starting_frames=[0, 0], check_videos="warn")
    with h5py.File(tmp_path / "a.nwb") as file:
        assert file[ACQUISITION.format("side")].attrs["starting_frame"].tolist() == [0, 0]


def test_frames_that_only_a_header_promises_are_refused(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    """ffmpeg remuxes mp4 to an AVI whose header counts empty chunks; OpenCV, and so NeuroConv, believes it."""
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
    mp4, avi = tmp_path / "video.mp4", tmp_path / "video.avi"
    subprocess.run([*ffmpeg, "-i", recordings["top"][0], "-c:v", "libx264", "-bf", "2", mp4], check=True)
    subprocess.run([*ffmpeg, "-i", mp4, "-c", "copy", avi], check=True)
    video = CheckedVideo(file_paths=[avi], video_name="top")
    with quiet(), pytest.raises(ExternalFilesError, match=r"num_samples=\d+, and its video only 10 frames"):
        video.run_conversion(tmp_path / "a.nwb", metadata=metadata(video))
    assert not (tmp_path / "a.nwb").exists()


def test_only_what_a_conversion_adds_is_compared(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    """A refused append leaves the file byte for byte; another is not refused for a series that was there before."""
    shutil.copy(recordings["top"][0], tmp_path / "video.avi")
    nwb_path = write_nwb(tmp_path / "a.nwb", ["video.avi", "video.avi"])
    with h5py.File(nwb_path, "r+") as file:
        file["acquisition/video/external_file"].attrs["starting_frame"] = [0, 3]
    before = digest(nwb_path)
    with quiet(), pytest.raises(ExternalFilesError, match="/acquisition/side"):
        two_videos(recordings).run_conversion(nwb_path, append_on_disk_nwbfile=True, starting_frames=[0, 7])
    assert digest(nwb_path) == before
    with quiet():
        two_videos(recordings).run_conversion(nwb_path, append_on_disk_nwbfile=True)
    assert len(stored_paths(nwb_path, ACQUISITION.format("side"))) == 2


def test_series_of_a_pipe_are_compared(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    class Pipe(RelocateMediaMixin, ConverterPipe):
        check_videos = "error"

    top = ExternalVideoInterface(file_paths=recordings["top"], video_name="top")
    side = two_videos(recordings, ExternalVideoInterface)
    pipe = Pipe(data_interfaces=dict(top=top, side=side))
    with pytest.raises(ExternalFilesError, match=r"'/acquisition/side'.* does not increase"), quiet():
        pipe.run_conversion(
            tmp_path / "a.nwb", metadata=metadata(pipe), conversion_options=dict(side=dict(starting_frames=[0, 0]))
        )
    assert not (tmp_path / "a.nwb").exists()


def test_a_call_turns_off_the_comparison_of_its_class(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    video = two_videos(recordings)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        video.run_conversion(tmp_path / "a.nwb", metadata=metadata(video), starting_frames=[0, 7], check_videos=False)
    assert warned(record) == []
    with h5py.File(tmp_path / "a.nwb") as file:
        assert file[ACQUISITION.format("side")].attrs["starting_frame"].tolist() == [0, 7]


def test_check_videos_is_warn_or_error(tmp_path: Path, recordings: dict[str, list[Path]]) -> None:
    video = two_videos(recordings)
    with pytest.raises(ValueError, match="check_videos must be 'warn', 'error' or False, not 'never'"):
        video.run_conversion(tmp_path / "a.nwb", metadata=metadata(video), check_videos="never")
