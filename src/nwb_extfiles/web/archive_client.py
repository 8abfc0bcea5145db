"""dandi's own client: for which archive, with the API key of the user where it is needed, and what its errors mean."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ..errors import ExternalFilesError, UnreadableFileError, UnsafeReferenceError
from .addresses import EXAMPLE, Address

__all__ = ["archive_errors", "asking", "client_for", "is_known", "zarr_checksum"]

T = TypeVar("T")


def asking(client: Any, question: Callable[[], T]) -> T:
    """The answer to a question, which is asked again with the API key of the user if it needs one."""
    try:
        try:
            return question()
        except Exception as error:
            if _status(error) != 401 or not _log_in(client):
                raise
            return question()
    finally:
        client.session.close()  # it is opened again when it is used


def client_for(address: Address, place: str) -> Any:
    """The client for the archive of an address; `place` is what messages call it.

    Raises
    ------
    UnsafeReferenceError
        If dandi does not know an archive of that name, or a server has the name of another archive.
    UnreadableFileError
        If the server does not answer as an archive does.
    """
    from dandi.consts import known_instances, known_instances_rev
    from dandi.dandiapi import DandiAPIClient

    try:
        client = DandiAPIClient.for_dandi_instance(address.instance)
        name = known_instances_rev.get(client.api_url.rstrip("/"))  # the API key is found by it
        if name not in (None, client.dandi_instance.name):
            client = DandiAPIClient.for_dandi_instance(name)
    except KeyError as error:
        reason = f"dandi knows no archive {address.instance!r}"
        raise UnsafeReferenceError(f"{place}: {reason}", hint=f"give {EXAMPLE}", nwb_path=place) from error
    except (RuntimeError, ValueError) as error:  # it is no archive, or one that needs another version of dandi
        reason = f"{error}: {error.__context__}" if error.__context__ is not None else str(error)
        raise UnreadableFileError(
            f"{place}: {reason}", hint="check that this is the address of a DANDI archive", nwb_path=place
        ) from error
    own_name = client.dandi_instance.name
    is_like = _plain(own_name) in map(_plain, known_instances)
    if name is None and is_like and address.instance not in (own_name, *known_instances_rev):
        # dandi names an unknown server by its host, and would give it the API key of the archive of that name, or of
        # one whose name gives the same environment variable
        raise UnsafeReferenceError(f"{place} is not the archive {own_name!r}", hint=f"give {EXAMPLE}", nwb_path=place)
    return client


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "_", name.lower())


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _log_in(client: Any) -> bool:
    """Give a client the API key of the user, if there is one. dandi would ask for it at the terminal."""
    import keyring
    from keyring.errors import KeyringError

    where = client.api_key_env_var
    key = os.environ.get(where)
    if not key:
        where = "the keyring"
        try:
            key = keyring.get_password(f"dandi-api-{client.dandi_instance.name}", "key")
        except KeyringError:
            key = None
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):  # the error of requests would show it
        raise _BadKeyError(f"the API key in {where} has characters that no API key has")
    try:
        if key:
            client.authenticate(key)
    except Exception as error:
        if _status(error) == 401:
            raise _BadKeyError(f"the archive refuses the API key in {where} (401)") from error
        raise
    return bool(key)


class _BadKeyError(Exception):
    """What is wrong with an API key; never the key itself."""


@contextmanager
def archive_errors(place: str, client: Any) -> Iterator[None]:
    """Let errors of requests to an archive say what it refuses, and what to do, as `UnreadableFileError`."""
    from requests import RequestException

    try:
        yield
    except ExternalFilesError:
        raise
    except _BadKeyError as error:
        hint = f"set the environment variable {client.api_key_env_var} to a valid API key"
        raise UnreadableFileError(f"{place}: {error}", hint=hint, nwb_path=place) from error
    except RequestException as error:
        raise _refused(place, client, error) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # dandi's client takes what an archive answers apart without a look at it
        raise _unexpected(place, f"{type(error).__name__}: {error}") from error


def _refused(place: str, client: Any, error: Exception) -> ExternalFilesError:
    variable, status = client.api_key_env_var, _status(error)
    if status == 401:
        what = "the dandiset is embargoed, and no API key was found (401)"
        hint = (
            f"set the environment variable {variable} to your API key, or give an asset of a DandiAPIClient that has it"
        )
    elif status == 403:
        what, hint = "your API key gives no access (403)", "ask an owner of the dandiset for access"
    else:
        return _unexpected(place, str(error))
    return UnreadableFileError(f"{place}: {what}", hint=hint, nwb_path=place)


def _unexpected(place: str, reason: str) -> ExternalFilesError:
    return UnreadableFileError(
        f"{place}: the archive does not answer as expected: {reason}", hint="try again", nwb_path=place
    )


def is_known(address: Address) -> bool:
    """Whether dandi knows the archive of an address; a file from elsewhere may name any server."""
    from dandi.consts import known_instances, known_instances_rev

    return address.instance in known_instances or address.instance.rstrip("/") in known_instances_rev


def zarr_checksum(store: Path) -> str:
    """The digest that an archive has of a Zarr store; all of its files are read."""
    from dandi.support.digests import get_zarr_checksum

    return str(get_zarr_checksum(store))
