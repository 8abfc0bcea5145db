"""The arguments that the IOs of this package take besides those of their backends, and the request they make up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, TypeVar

from hdmf.utils import docval, get_docval

from ..options import MediaMode, MediaOptions, refuse_mode_alone

__all__ = ["RelocationRequest", "takes_arguments_of", "with_media_arguments"]

_F = TypeVar("_F", bound=Callable[..., Any])
_C = TypeVar("_C", bound=type)

_MEDIA_ARGS: tuple[dict[str, Any], ...] = (
    dict(
        name="relocate_media", type=bool, default=None,
        doc="True: media are moved, copied or linked into a folder beside the NWB file, and the stored paths are "
        "rewritten. False: the paths are written verbatim. None: verbatim too, but refused if a link that works would "
        "break by it.",
    ),
    dict(
        name="media_mode", type=str, enum=[mode.value for mode in MediaMode], default=None,
        doc="how media are put there: 'symlink' (default), 'hardlink', 'copy', 'move', or 'reference' (they stay)",
    ),
    dict(
        name="media_options", type=(MediaOptions, Mapping), default=None,
        doc="a MediaOptions, or a mapping with its fields",
    ),
)  # fmt: skip
_RESOLVE_ARG: dict[str, Any] = dict(
    name="resolve_media", type=bool, default=False,
    doc="whether paths of media in containers that are read are made absolute, so that they can be opened",
)  # fmt: skip
_ANNOTATIONS = {
    "relocate_media": bool | None,
    "media_mode": MediaMode | str | None,
    "media_options": MediaOptions | Mapping[str, Any] | None,
    "resolve_media": bool,
}


@dataclass(frozen=True, slots=True)
class RelocationRequest:
    """What a caller asks for: of a constructor, the defaults of its calls; else of one call."""

    relocate: bool | None = None
    mode: MediaMode | None = None
    """None means symbolic links."""
    options: MediaOptions = field(default_factory=MediaOptions)

    def for_call(
        self,
        relocate_media: bool | None = None,
        media_mode: MediaMode | str | None = None,
        media_options: MediaOptions | Mapping[str, Any] | None = None,
    ) -> RelocationRequest:
        """What a call asks for; this request holds the defaults.

        Raises
        ------
        RelocationRefusedError
            If a mode is given and nothing is to be relocated.
        """
        relocate = self.relocate if relocate_media is None else bool(relocate_media)
        if media_mode is None and (relocate or relocate_media is None):
            media_mode = self.mode
        refuse_mode_alone(media_mode, relocate)
        options = self.options if media_options is None else MediaOptions.from_value(media_options)
        return RelocationRequest(relocate, None if media_mode is None else MediaMode(media_mode), options)


def with_media_arguments(parent: Any, *more: dict[str, Any]) -> Callable[[_F], _F]:
    """Let a method take the arguments of a method of HDMF, those of this package, and `more`, as docval takes them.

    HDMF checks them as it checks its own, and hands them over as keywords. `inspect.signature` shows all of them.
    """

    def decorate(method: _F) -> _F:
        checked: Any = docval(*get_docval(parent), *_MEDIA_ARGS, *more)(method)
        checked.__qualname__ = method.__qualname__
        first = next(iter(signature(method).parameters.values()))
        checked.__signature__ = Signature([first, *map(_parameter, get_docval(checked))])  # which docval hides
        return checked  # type: ignore[no-any-return]

    return decorate


def _parameter(argument: dict[str, Any]) -> Parameter:
    name, default = argument["name"], argument.get("default", Parameter.empty)
    annotation = _ANNOTATIONS.get(name, Parameter.empty)
    return Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)


def takes_arguments_of(backend: type) -> Callable[[_C], _C]:
    """Let `__init__`, `write` and `export` of an IO class take the arguments of its backend too."""

    def decorate(cls: _C) -> _C:
        for name, more in {"__init__": (_RESOLVE_ARG,), "write": (), "export": ()}.items():
            method = _of_its_own(getattr(cls, name), cls)
            setattr(cls, name, with_media_arguments(getattr(backend, name), *more)(method))
        return cls

    return decorate


def _of_its_own(method: Any, cls: type) -> Callable[..., Any]:
    """A method of the mix-in by the name that it has in a class, which HDMF gives in its messages."""

    @wraps(method)
    def own(self: Any, **kwargs: Any) -> Any:
        return method(self, **kwargs)

    own.__qualname__ = f"{cls.__name__}.{method.__name__}"
    return own
