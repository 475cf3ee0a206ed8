# SPDX-License-Identifier: Apache-2.0
"""The description of an export: its JSON, read and written without MXNet."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.preprocessing import Preprocessing
from ..errors import check, in_one_line
from ..files import json_sha256, sha256
from ..text import read_json
from .artifact_files import Files, content_files
from .metadata_schema import check_fields

if TYPE_CHECKING:
    from ..models.spec import NetworkSpec

FORMAT = 2  # 1 has no preprocessing and no checksum of the metadata


@dataclasses.dataclass(frozen=True)
class ExportMetadata:
    """Description of an export, stored as JSON beside its files.

    Parameters
    ----------
    model, spec
        Registry name and all spec fields of the network; None for other HybridBlocks.
    target
        A key of ``TARGETS``.
    input_name, input_shape
        Name of the graph's input, and the shape (N, C, H, W) for which it was exported.
    outputs, output_shapes
        Names of the graph's outputs, and their shapes for ``input_shape``.
    class_names
        A label for each output, if known.
    preprocessing
        Preprocessing of images, None if it is unknown. That of format 1 resizes both sides, as
        earlier versions did.
    versions
        Versions of the software that wrote the export.
    sha256
        Checksums of the ``symbol``, ``params`` and ``library`` files, or of the ``model``.
    quantization
        For int8 targets: the calibration, the layers excluded from quantization (``kept``) and the
        quantization error on the calibration images. None for float targets.
    preprocess, output, params_dtype
        Arguments of :func:`gluondense.export`. With ``preprocess`` the graph's input is pixels
        (N, H, W, C) after resize and crop.
    task, thresholds
        ``"classification"``, or ``"multi_label"`` with the probability from which on each label is
        present, 0.5 if they are None; or ``"detection"``.
    """

    model: str | None
    spec: dict[str, Any] | None
    target: str
    input_name: str
    input_shape: tuple[int, ...]
    outputs: tuple[str, ...]
    class_names: tuple[str, ...] | None
    preprocessing: Preprocessing | None
    versions: dict[str, str]
    sha256: dict[str, str]
    quantization: dict[str, Any] | None = None
    preprocess: bool = False
    output: str = "logits"
    params_dtype: str = "float32"
    output_shapes: tuple[tuple[int, ...], ...] = ()
    task: str = "classification"
    thresholds: tuple[float, ...] | None = None

    @property
    def mean(self) -> tuple[float, ...] | None:
        """Mean of each channel, for pixels in [0, 1], if known."""
        return self.preprocessing.mean if self.preprocessing else None

    @property
    def std(self) -> tuple[float, ...] | None:
        """Standard deviation of each channel, if known."""
        return self.preprocessing.std if self.preprocessing else None

    def network_spec(self) -> NetworkSpec | None:
        """Return the network's spec; None if it is none of ours.

        Raises a ValueError if a field is outside its range.
        """
        from ..models.registry import SPECS, get_spec

        if self.model not in SPECS or self.spec is None:
            return None
        known = {field.name for field in dataclasses.fields(SPECS[self.model])}
        return get_spec(self.model, **{k: v for k, v in self.spec.items() if k in known})


def write_metadata(files: Files, metadata: ExportMetadata) -> None:
    """Write the metadata with the checksums of the other files, which must exist."""
    sums = {n: sha256(file) for n, file in content_files(files, metadata.target).items()}
    content = {"format": FORMAT, **dataclasses.asdict(metadata), "sha256": sums}
    content |= {"mean": metadata.mean, "std": metadata.std}  # for other readers
    content["content_sha256"] = json_sha256(content)
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    files.metadata.write_text(text, encoding="utf-8")


def read_metadata(path: Path) -> ExportMetadata:
    """Read and check the metadata of an export.

    A ValueError tells that it is none, is damaged, or has a newer format.
    """
    try:
        content = read_json(path)
        check("the content", type(content).__name__, "an object", isinstance(content, dict))
        written = content.get("format")
        if written in (1, FORMAT):
            return _parse(content)
    except ValueError as error:
        reason = in_one_line(error).rstrip(".")
        raise ValueError(f"{path} does not describe an export ({reason}): export again.") from None
    raise ValueError(
        f"{path} has format {in_one_line(written)}, this gluondense reads 1 to {FORMAT}: update it."
    )


def _parse(content: dict[str, Any]) -> ExportMetadata:
    """Check the content of a metadata file of a known format, and make the metadata of it."""
    written, mean, std = content.pop("format"), content.pop("mean", None), content.pop("std", None)
    if written == 1:
        content["preprocessing"] = None
        shape = content.get("input_shape")
        if mean is not None and std is not None and isinstance(shape, list) and len(shape) == 4:
            stretched = Preprocessing.stretched(mean, std, (shape[2], shape[3]))
            content["preprocessing"] = stretched.to_dict()
    else:
        expected = content.pop("content_sha256", None)
        everything = {"format": written, "mean": mean, "std": std, **content}
        if json_sha256(everything) != expected:
            raise ValueError("its content is not that of its content_sha256: it is damaged")
    check_fields(content)
    preprocessing = content.pop("preprocessing")
    values = {key: _frozen(value) for key, value in content.items()}
    if preprocessing is not None:
        preprocessing = Preprocessing.from_dict(preprocessing)
    return ExportMetadata(preprocessing=preprocessing, **values)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
