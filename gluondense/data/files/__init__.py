"""Readers and writers of image files, RecordIO files, list files and idx files."""
