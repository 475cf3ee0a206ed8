# SPDX-License-Identifier: Apache-2.0
"""Native exports without MXNet: the functions of gluondense.h."""
