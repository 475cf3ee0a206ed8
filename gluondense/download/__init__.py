"""Download files: verified, gone on with where a connection broke, by one process at a time.

``GLUONDENSE_MIRROR``
    A base URL or a folder that is asked first, for the file's bare name.
``GLUONDENSE_OFFLINE``
    With ``1`` nothing is asked of the network; the cache and a mirror's folder still serve.
``MXNET_HOME``
    Where the cache is, in place of ``~/.mxnet``. A ``root`` that is given wins.

Proxies are those of the usual variables, ``HTTPS_PROXY`` and its like. MXNet's ``MXNET_GLUON_REPO``
is not read: below it are MXNet's own archives, none of which is a source of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .file import cache_folder, download_file, has_sha256
else:
    __getattr__, __dir__ = attach(__name__)

__all__ = ["cache_folder", "download_file", "has_sha256"]
