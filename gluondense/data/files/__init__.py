# SPDX-License-Identifier: Apache-2.0
"""Readers and writers of image files, RecordIO files, list files and idx files."""
