"""NeuroConv conversions that relocate media, and compare videos with their series.

NeuroConv writes the paths of videos as it was given them, and copies nothing. `RelocateMediaMixin` relocates the videos
when a conversion has written its file; nothing of NeuroConv is changed, so its compression settings and all its ways to
write stay as they are. The videos are compared with their series before the file is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from .errors import ExternalFilesError, RelocationRefusedError, combine, warn
from .options import MediaModes, MediaOptions, modes_in_order, refuse_mode_alone
from .plans.plan import RelocationPlan
from .tasks.check.findings import Finding
from .tasks.check.new_series import check_new_series
from .tasks.relocating import references_before, relocate_just_written

if TYPE_CHECKING:

    class _Conversion:
        def run_conversion(self, nwbfile_path: Any = None, *args: Any, **kwargs: Any) -> Any: ...
        def add_to_nwbfile(self, nwbfile: Any, *args: Any, **kwargs: Any) -> Any: ...

else:
    _Conversion = object

__all__ = ["RelocateMediaMixin", "relocating_backends"]


_IO_OF = {"hdf5": "NWBExtFilesHDF5IO", "zarr": "NWBExtFilesZarrIO"}  # by the names that NeuroConv gives to backends


class RelocateMediaMixin(_Conversion):
    """Gives `run_conversion` the three arguments of `NWBExtFilesHDF5IO`, and `check_videos`.

    Name it before an ``NWBConverter``, a ``DataInterface`` or a ``ConverterPipe`` among the bases of a class. A
    subclass may set the four as class attributes, for code whose calls cannot be changed.

    Attributes
    ----------
    relocate_media : bool
        Whether media are relocated when a call does not say.
    media_mode : MediaMode, str or sequence of these
        How, when a call does not say; symbolic links by default.
    media_options : MediaOptions or mapping, optional
        How media are found, named and transferred, when a call does not say.
    check_videos : {"warn", "error", False}, optional
        Whether videos are compared with their series, when a call does not say; by default they are not.
    relocation : RelocationPlan or None
        What the last call did with the media.

    Examples
    --------
    >>> from neuroconv import NWBConverter
    >>> from neuroconv.datainterfaces import ExternalVideoInterface
    >>> from nwb_extfiles.neuroconv import RelocateMediaMixin
    >>> class Session(RelocateMediaMixin, NWBConverter):
    ...     data_interface_classes = dict(Video=ExternalVideoInterface)
    >>> converter = Session(dict(Video=dict(file_paths=["video.mp4"])))  # doctest: +SKIP
    >>> converter.run_conversion("sub-a/sub-a.nwb", relocate_media=True, media_mode="copy")  # doctest: +SKIP
    """

    relocate_media: bool = False
    media_mode: MediaModes | None = None
    media_options: MediaOptions | Mapping[str, Any] | None = None
    check_videos: Literal["warn", "error", False] | None = None
    relocation: RelocationPlan | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse an order of bases in which `run_conversion` is another's."""
        super().__init_subclass__(**kwargs)
        for base in cls.__mro__[: cls.__mro__.index(RelocateMediaMixin)]:
            # NeuroConv's do not hand on to the next class; those of users may
            if base.__module__.partition(".")[0] == "neuroconv" and "run_conversion" in vars(base):
                raise TypeError(
                    f"{cls.__name__}: run_conversion is that of {base.__name__}, so no media would be relocated; name "
                    f"RelocateMediaMixin before it among the bases"
                )

    def run_conversion(
        self,
        nwbfile_path: str | os.PathLike[str] | None = None,
        *args: Any,
        relocate_media: bool | None = None,
        media_mode: MediaModes | None = None,
        media_options: MediaOptions | Mapping[str, Any] | None = None,
        check_videos: Literal["warn", "error", False] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the conversion, then move, copy or link the media of the file into a folder beside it.

        Parameters
        ----------
        nwbfile_path, *args, **kwargs
            As in NeuroConv. Missing folders are made if media are relocated.
        relocate_media : bool, optional
            Whether media are relocated. Those that were in an existing file are too.
        media_mode : MediaMode, str or sequence of these, optional
            How media are moved, copied or linked, as in `NWBExtFilesHDF5IO`; only together with
            ``relocate_media=True``.
        media_options : MediaOptions or mapping, optional
            How media are found, named and transferred. Relative paths of what an existing file held mean files
            beside it, those of new objects also files below the working directory.
        check_videos : {"warn", "error", False}, optional
            Compare the videos of the series that this conversion adds with their series, before anything is written:
            numbers of frames against timestamps (or `num_samples`) and `starting_frame`, frame sizes, and whether each
            is a whole video. ``"warn"`` gives an `ExternalFilesWarning` for each problem, ``"error"`` raises, and
            ``False`` turns off what the class does. Frames are counted by the index of the container; files without
            one (MKV, WebM, FLV, WMV) are read to the end.
            Needs PyAV (``pip install "av>=17"``).

        Returns
        -------
        object
            What NeuroConv returns.

        Raises
        ------
        RelocationRefusedError
            If the arguments contradict each other, or if the path is a symbolic link; nothing was written.
        TransferError
            If an interrupted run has left the file inconsistent, and it cannot be restored; nothing was written.
        ExternalFilesError
            With ``check_videos="error"``, if a video does not fit its series; nothing was written. If the media cannot
            be treated as asked. The NWB file is there then, as NeuroConv has written it; fix what
            the error says, and call `nwb_extfiles.relocate` on it.
        """
        relocating = self.relocate_media if relocate_media is None else relocate_media
        refuse_mode_alone(media_mode, relocating)
        modes = modes_in_order(media_mode or self.media_mode)
        options = MediaOptions.from_value(self.media_options if media_options is None else media_options)
        if relocating and nwbfile_path is None:
            raise RelocationRefusedError(
                "relocate_media=True was given without nwbfile_path, the file beside which the media are to be",
                hint="give nwbfile_path",
            )
        self.relocation = None
        comparing = self.check_videos if check_videos is None else check_videos
        with self._comparing(nwbfile_path, comparing, options):
            if not relocating or nwbfile_path is None:
                return super().run_conversion(nwbfile_path, *args, **kwargs)
            path = Path(os.path.abspath(nwbfile_path))
            path.parent.mkdir(parents=True, exist_ok=True)
            before = references_before(path, options)
            result = super().run_conversion(nwbfile_path, *args, **kwargs)
        self.relocation = relocate_just_written(nwbfile_path, modes, options, before)
        return result

    @contextmanager
    def _comparing(self, nwbfile_path: Any, what: str | Literal[False] | None, options: MediaOptions) -> Iterator[None]:
        """For a while, compare what `add_to_nwbfile` adds with its videos: all ways to write call it first."""
        if what not in ("warn", "error", False, None):
            raise ValueError(f"check_videos must be 'warn', 'error' or False, not {what!r}")
        if not what:
            yield
            return
        add = self.add_to_nwbfile

        @wraps(add)  # NeuroConv reads its signature
        def add_and_compare(nwbfile: Any, *args: Any, **kwargs: Any) -> Any:
            known = {container.object_id for container in nwbfile.all_children()}
            result = add(nwbfile, *args, **kwargs)
            new = [container for container in nwbfile.all_children() if container.object_id not in known]
            _report(list(check_new_series(new, options)), nwbfile_path, raising=what == "error")
            return result

        vars(self)["add_to_nwbfile"] = add_and_compare
        try:
            yield
        finally:
            del vars(self)["add_to_nwbfile"]


def _report(findings: list[Finding], nwbfile_path: Any, *, raising: bool) -> None:
    problems = [
        ExternalFilesError(
            f"{finding.where}: {finding.what}",
            hint=finding.hint,
            nwb_path=finding.nwb_path,
            object_path=finding.object_path,
            field=finding.field,
            index=finding.index,
        )
        for finding in (replace(finding, nwb_path=str(nwbfile_path)) for finding in findings)
    ]
    if problems and raising:
        raise combine(problems)
    for problem in problems:
        warn(problem.message)


@contextmanager
def relocating_backends(
    media_mode: MediaModes | None = None, media_options: MediaOptions | Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Have NeuroConv write with the IOs of this package for a while.

    For code that cannot be changed at all: it replaces the entries of ``BACKEND_NWB_IO`` in
    ``neuroconv.tools.nwb_helpers``, for the whole process, and restores the former ones at the end. Where several are
    open, in one thread or in several, the one that began last counts, for all of them. Prefer `RelocateMediaMixin`
    where classes can be changed.

    Parameters
    ----------
    media_mode : MediaMode, str or sequence of these, optional
        How media are moved, copied or linked; symbolic links by default.
    media_options : MediaOptions or mapping, optional
        How media are found, named and transferred.

    Raises
    ------
    ExternalFilesError
        By the calls inside, if media cannot be treated as asked; no file is written then.

    Examples
    --------
    >>> from nwb_extfiles.neuroconv import relocating_backends
    >>> with relocating_backends(media_mode="copy"):  # doctest: +SKIP
    ...     lab_script.convert_everything()
    """
    from neuroconv.tools.nwb_helpers import BACKEND_NWB_IO

    defaults = dict(
        relocate_media=True,
        media_mode=modes_in_order(media_mode),
        media_options=MediaOptions.from_value(media_options),
    )
    ours = {name: _with_defaults(name, defaults) for name in BACKEND_NWB_IO if name in _IO_OF}
    with _changing:
        if not _open:
            _former.update({name: BACKEND_NWB_IO[name] for name in ours})
        _open.append(ours)
        BACKEND_NWB_IO.update(ours)
    try:
        yield
    finally:
        with _changing:
            # Contexts of several threads end in any order: what they found when they began may be gone by now.
            _open[:] = [entries for entries in _open if entries is not ours]
            below = _open[-1] if _open else _former
            BACKEND_NWB_IO.update({name: below[name] for name in ours if BACKEND_NWB_IO.get(name) is ours[name]})


_changing = Lock()
_open: list[dict[str, type]] = []  # what each context that has not ended has put in, in the order of their beginnings
_former: dict[str, type] = {}  # what was there before the first of them


def _with_defaults(backend: str, defaults: Mapping[str, Any]) -> type:
    """Make an IO for a backend that has other defaults."""
    cls: Any = getattr(import_module(__package__), _IO_OF[backend])

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        cls.__init__(self, *args, **{**defaults, **kwargs})

    return type(f"Relocating{cls.__name__}", (cls,), {"__init__": __init__, "__doc__": cls.__doc__})
