"""What `gluondense export` prints about an export."""

from __future__ import annotations

from types import SimpleNamespace

from gluondense.commands.export_summary import quantization_lines

RECORD = {"images": 256, "method": "minmax", "layers": 40, "error": 0.029, "agreement": 0.992}


def test_the_layers_in_float_are_named():
    kept = [f"net_stage1_layer{n}_conv1_fwd" for n in range(1, 9)] + ["net_output_fwd", "other"]
    lines = quantization_lines(SimpleNamespace(model="net", quantization={**RECORD, "kept": kept}))
    assert lines[0] == (
        "Calibrated with 256 images (minmax); 10 of 40 layers stay in float32; "
        "outputs are off by 2.90%, and 99.2% of the predictions are unchanged."
    )
    assert lines[1].startswith("In float32: stage1_layer1_conv1, stage1_layer2_conv1, ")
    assert lines[-1].endswith("stage1_layer8_conv1, output, other.")
    assert len(lines) == 3
    assert all(len(line) <= 100 for line in lines[1:])


def test_no_list_of_no_layers():
    found = SimpleNamespace(model="net", quantization={**RECORD, "kept": []})
    assert len(quantization_lines(found)) == 1
