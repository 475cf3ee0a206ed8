# SPDX-License-Identifier: Apache-2.0
"""Download files: verified, resumable, and one process at a time.

``GLUONDENSE_MIRROR``
    A base URL or a folder that is tried first, for the file's bare name.
``GLUONDENSE_OFFLINE``
    With ``1`` the network is not used; the cache and a mirror that is a folder still are.
``MXNET_HOME``
    Parent of the cache, instead of ``~/.mxnet``. An explicit ``root`` takes precedence.

Proxies are set by the usual variables, such as ``HTTPS_PROXY``. MXNet's ``MXNET_GLUON_REPO`` is
ignored: it points to MXNet's own archives, which are not a source here.
"""
