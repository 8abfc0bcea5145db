"""NWB files that nobody asked to relocate, and that must not lose their films by it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from ..errors import ExternalFilesError, RelocationRefusedError
from ..nwb.finding import find_in_file
from ..nwb.registry import media_fields
from ..nwb.stores import nwb_files_beside, nwb_files_called_like, open_nwb
from ..options import MediaMode, MediaOptions
from ..plans.plan import RelocationPlan
from ..plans.resolve import resolve_all
from .finished import is_former_media_folder

__all__ = ["Others"]


class Others:
    """NWB files that are not relocated, but refer to films in the media folders of those that are.

    Parameters
    ----------
    documents : collection of pathlib.Path
        The files that are relocated.
    options : MediaOptions
        Of which `media_fields` is used.
    """

    def __init__(self, documents: Collection[Path], options: MediaOptions) -> None:
        self._documents = documents
        self._options = options
        self._beside: dict[tuple[Path, Path], list[Path]] = {}
        self._used: dict[Path, tuple[set[Path], set[tuple[int, int]]]] = {}

    def use(self, folder: Path, nwb_path: Path) -> bool:
        """Whether another file refers to media in a folder."""
        return any(folder in self._used_by(other)[0] for other in self._of(folder, nwb_path))

    def robbed_by(self, plan: RelocationPlan) -> Iterator[ExternalFilesError]:
        """Films that a move would take away from another file."""
        for entry in plan.relocations:
            source = entry.source
            if plan.mode is not MediaMode.MOVE or source is None or entry.target is None:
                continue
            for folder in {source.path.parent, source.real.parent}:
                users = (
                    other for other in self._of(folder, plan.nwb_path) if source.identity in self._used_by(other)[1]
                )
                if (other := next(users, None)) is not None:
                    yield RelocationRefusedError(
                        f"{entry.reference.where}: {str(source.real)!r} belongs to {str(other)!r} too, which would "
                        f"lose it; relocate both files in one call, or use media_mode 'copy' or 'hardlink'",
                        **entry.reference.place,
                    )
                    break

    def _of(self, folder: Path, nwb_path: Path) -> list[Path]:
        """The file whose media folder a folder is; where that was renamed, any file beside it may be it."""
        if (folder, nwb_path) not in self._beside:
            self._beside[folder, nwb_path] = self._find(folder, nwb_path)
        return self._beside[folder, nwb_path]

    def _find(self, folder: Path, nwb_path: Path) -> list[Path]:
        files = nwb_files_called_like(folder)
        if nwb_path in files:
            return []
        if not files and is_former_media_folder(folder, nwb_path):
            files = nwb_files_beside(nwb_path)
        return [file for file in files if file not in self._documents]

    def _used_by(self, nwb_path: Path) -> tuple[set[Path], set[tuple[int, int]]]:
        """The folders of the files that an NWB file refers to, and these files; none if it cannot be read."""
        if nwb_path not in self._used:
            try:
                with open_nwb(nwb_path) as file:
                    references = find_in_file(file, media_fields(self._options.media_fields))
            except ExternalFilesError:
                references = []
            found = resolve_all(references, MediaOptions(), destination=nwb_path.parent)
            files = [entry.file for entry in found if entry.file is not None]
            self._used[nwb_path] = {file.path.parent for file in files}, {file.identity for file in files}
        return self._used[nwb_path]
