"""Packaging: what gluondense needs, each bound with its reason."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "gluondense/version.py").read_text()).group(1)

# MXNet's own metadata says numpy<2, so pip cannot pair it with the NumPy that Python 3.13 needs.
# There it is one more line: pip install --no-deps mxnet==1.9.1
NUMPY_1_ERA = '; python_version < "3.13"'

# NumPy 1.24 removed numpy.bool, without which `import mxnet` fails unless gluondense was imported
# first; exports are to load in plain MXNet right beside it. Python 3.12 has no NumPy so old.
NUMPY_OF_PLAIN_MXNET = 'numpy<1.24; python_version < "3.12"'

setup(
    name="gluondense",
    version=VERSION,
    description="DenseNet, CSP-DenseNet, CSPResNe(X)t and DPN for Apache MXNet 1.9.1",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["gluondense", "gluondense.*"]),
    package_data={
        "gluondense": ["py.typed"],
        "gluondense.native": ["src/*", "src/*/*", "src/*/*/*"],  # compiled on the user's machine
    },
    # The range of tests/test_pythons.py.
    python_requires=">=3.9,<3.14",
    install_requires=[
        "numpy>=1.21",  # the oldest that is tested; above 2 only with MXNet's --no-deps line
        "gluoncv==0.10.5.post0",  # the last release with MXNet 1.9 in mind
        "graphviz>=0.8.1,<0.9",  # MXNet's own bounds of graphviz and requests, for --no-deps
        "requests>=2.20,<3",
        "opencv-python<4.12",  # needed by gluoncv; 4.12 asks for numpy>=2
        "pillow",
        "plotly>=6",  # the reports' self-contained pages
        "safetensors>=0.6.1",  # checks the headers of such files; the first that tells their order
        "scipy",  # reads SVHN and ImageNet's development kit, which are .mat files
        "scikit-learn",  # its embedded digits are the data set of last resort
        "tabulate",
        "tqdm",
        "urllib3",  # requests' own; only its exceptions tell what never connected from what broke
    ],
    extras_require={
        # One of the two, never both: they install the same module.
        "cpu": ["mxnet==1.9.1" + NUMPY_1_ERA, NUMPY_OF_PLAIN_MXNET],
        "cu112": ["mxnet-cu112==1.9.1" + NUMPY_1_ERA, NUMPY_OF_PLAIN_MXNET],
        # Exact where a new version would move the goal posts.
        "test": [
            "hypothesis",
            'mypy==2.4.1; python_version >= "3.10"',
            'pytest==9.2.0; python_version >= "3.10"',
            'pytest; python_version < "3.10"',
            "pyyaml",  # the docs site's menu
            "ruff==0.17.6",
            "tensorboardX",
            "setuptools>=61",  # `make test` reads setup.py
        ],
        # The peers of `make test-parity`; those in the Makefile come with --no-deps, for they ask
        # for other builds of torch and MXNet. timm needs the other two.
        "parity": ["torch==2.13.0", "huggingface_hub", "pyyaml"],
        # 1.14 is the first that goes with today's protobuf; ours is not MXNet's exporter, which
        # needs what onnx 1.19 dropped.
        "onnx": ["onnx>=1.14", "onnxruntime"],
        "tensorboard": ["tensorboardX"],  # writes event files without TensorFlow
        "serve": ["multi-model-server==1.1.11", "model-archiver==1.0.3"],
        # Exact, for --strict fails on what a new version warns of. Material gets fixes until May
        # 2027; Zensical, of the same authors, reads this mkdocs.yml too, but is at 0.1. l2m4m makes
        # MathML of equations, so that no page needs a script from elsewhere; ruff wraps signatures.
        "docs": [
            "l2m4m==1.0.4",
            "mkdocs==1.6.1",
            "mkdocs-material==9.8.2",
            "mkdocstrings[python]==1.0.8",
            "mkdocstrings-python==2.0.11",
            "ruff==0.17.6",
        ],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
