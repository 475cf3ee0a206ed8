# SPDX-License-Identifier: Apache-2.0
"""Images with boxes: readers of VOC, COCO and CSV annotations, transforms and the loader."""
