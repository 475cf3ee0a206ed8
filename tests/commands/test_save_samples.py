from __future__ import annotations

import numpy as np
from PIL import Image
from support.training_tiny import TINY

from gluondense.commands.save_samples import main
from gluondense.data import load_dataset
from gluondense.training import fit


def test_the_first_test_images_are_written_with_their_classes(tmp_path, capsys):
    fit(TINY.with_fields(epochs=1), tmp_path, progress=False)
    capsys.readouterr()
    assert main([str(tmp_path), "--count", "2"]) == 0
    data, paths = load_dataset("synthetic"), capsys.readouterr().out.split()
    assert len(paths) == 2
    for index, path in enumerate(paths):
        name = data.info.class_names[data.test_labels[index]].lower().replace(" ", "-")
        assert path == str(tmp_path / "samples" / f"{index}-{name}.png")
        np.testing.assert_array_equal(Image.open(path), data.test_images[index].squeeze())


def test_a_folder_without_a_run_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err
