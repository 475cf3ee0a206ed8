"""The process after ``import gluondense``: threads, the import of MXNet, old names, errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from types import ModuleType, SimpleNamespace

import mxnet as mx
import numpy as np
import pytest

from gluondense import environment
from gluondense.environment import compat, mxnet_import, process

THREADS = {"OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "GLUONDENSE_SHARE"}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Make a tree of /proc and /sys files for an 8-way machine with two threads a core."""

    def write(files=(), cpus=range(8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(cpus), raising=False)
        topology = {
            f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": f"{n % 4},{n % 4 + 4}"
            for n in range(8)
        }
        for name, text in {**topology, **dict(files)}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        return tmp_path

    return write


def test_hyper_threads_share_a_core(machine):
    assert environment.usable_cores(machine()) == 4


@pytest.mark.parametrize(("cpus", "cores"), [({0, 1, 2}, 3), ({0, 4}, 1), ({0, 4, 5}, 2), ({7}, 1)])
def test_affinity_limits_the_cores(machine, cpus, cores):
    assert environment.usable_cores(machine(cpus=cpus)) == cores


V1 = "12:cpuset:/other\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/init.scope"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 4),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "350000 100000"}, 3),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({"proc/self/cgroup": "0::/pod/box", "sys/fs/cgroup/pod/cpu.max": "100000 100000"}, 1),
        (
            {
                "proc/self/cgroup": "0::/pod/box",
                "sys/fs/cgroup/pod/cpu.max": "300000 100000",
                "sys/fs/cgroup/pod/box/cpu.max": "200000 100000",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            4,
        ),
    ],
    ids=[
        "v2",
        "v2-max",
        "v2-rounds-down",
        "v2-at-least-one",
        "v2-parent",
        "v2-least-of-two",
        "v1-own-root",
        "v1-full-path",
        "v1-no-limit",
    ],
)
def test_cgroup_quota_limits_the_cores(machine, files, cores):
    assert environment.usable_cores(machine(files)) == cores


def test_without_topology_each_cpu_is_a_core(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert environment.usable_cores(tmp_path) == 3


def run(code: str, **variables: str) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter whose environment says nothing of threads."""
    clean = {name: value for name, value in os.environ.items() if name not in THREADS}
    clean.pop("GLUONDENSE_COMPAT", None)
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def fresh(monkeypatch):
    """Set the environment to given variables and none of threads, before MXNet is imported."""

    def start(**variables):
        for name in THREADS:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delitem(sys.modules, "mxnet")

    return start


@pytest.mark.parametrize(
    ("variables", "threads", "spin"),
    [
        ({}, str(environment.usable_cores()), "10000"),
        ({"OMP_NUM_THREADS": "7"}, "7", "10000"),
        ({"GOMP_SPINCOUNT": "5"}, str(environment.usable_cores()), "5"),
        ({"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}, "1", None),
        ({"GLUONDENSE_SHARE": "999"}, "1", "10000"),
        ({"GLUONDENSE_SHARE": "999", "OMP_NUM_THREADS": "7"}, "7", "10000"),
    ],
    ids=["nothing", "threads", "spin", "wait-policy", "share", "share-and-threads"],
)
def test_what_the_user_set_stays(fresh, variables, threads, spin):
    fresh(**variables)
    process._set_threads()
    assert os.environ.get("OMP_NUM_THREADS") == threads
    assert os.environ.get("GOMP_SPINCOUNT") == spin


def test_threads_are_set_without_a_warning_before_mxnet_loads():
    done = run(
        "import sys, os, warnings\n"
        "warnings.simplefilter('error')\n"
        "class Spy:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'mxnet':\n"
        "            print(os.environ['OMP_NUM_THREADS'], os.environ['GOMP_SPINCOUNT'])\n"
        "sys.meta_path.insert(0, Spy())\n"
        "import gluondense, mxnet"
    )
    assert done.stdout.split() == [str(environment.usable_cores()), "10000"]
    assert (done.returncode, done.stderr) == (0, "")


def test_mxnet_imported_first_is_warned_of_once():
    done = run(
        "import mxnet, gluondense; gluondense.environment.prepare()",
        # MXNet first means without our aliases, so this needs what NumPy < 1.24 still has.
        PYTHONWARNINGS="ignore::DeprecationWarning",
    )
    if "has no attribute" in done.stderr or "No module named 'distutils'" in done.stderr:
        pytest.skip("here mxnet cannot be imported before gluondense")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("MXNetImportedFirstWarning") == 1
    assert "import gluondense first" in done.stderr
    assert "<string>:1" in done.stderr  # the user's line, not ours


def test_mxnet_imported_first_with_threads_set_is_no_trouble(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("GOMP_SPINCOUNT", "10000")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        environment.prepare()


def test_compat_can_be_turned_off():
    code = "import gluondense, mxnet; print(gluondense.environment.patches())"
    done = run(code, GLUONDENSE_COMPAT="0", PYTHONWARNINGS="ignore::DeprecationWarning")
    if done.returncode:  # where MXNet needs the names, the error says so
        assert "unset GLUONDENSE_COMPAT" in done.stderr
    else:
        assert done.stdout.strip() == "()"


def failed_import(error):
    """The message for an error that MXNet's package raises while it is executed."""

    def exec_module(module):
        raise error

    with pytest.raises(ImportError) as caught:
        mxnet_import._execute(exec_module, ModuleType("mxnet"))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (OSError("libquadmath.so.0: cannot open shared object file"), "apt install libquadmath0"),
        (OSError("libgomp.so.1: cannot open shared object file"), "apt install libgomp1"),
        (OSError("libcuda.so.1: cannot open shared object file"), "pip uninstall mxnet-cu112"),
        (OSError("libcudnn.so.8: cannot open shared object file"), r"gluondense\[cuda11\]"),
        (OSError("libnccl.so.2: cannot open shared object file"), "NCCL 2"),
        (OSError("libnvrtc.so.11.2: cannot open shared object file"), "CUDA 11.2"),
        (RuntimeError("Cannot find the MXNet library."), "reinstall"),
    ],
)
def test_a_failed_import_names_the_fix(error, fix):
    message = failed_import(error)
    assert re.search(fix, message), message


WITHOUT_PACKAGES = (
    "import sys; sys.path[:] = [{root!r}, *(path for path in sys.path if 'site-' not in path)]\n"
)


def test_a_missing_mxnet_is_named_when_it_is_imported(root):
    code = WITHOUT_PACKAGES.format(root=str(root)) + (
        "import gluondense, importlib.util\n"
        "importlib.util.find_spec('mxnet')\n"
        "try: import mxnet\n"
        "except ModuleNotFoundError as error: print(error.name, error)"
    )
    done = run(code)
    assert done.stdout.startswith("mxnet MXNet is not installed: pip install"), done.stderr
    assert "gluondense[cpu]" in done.stdout


def test_a_platform_without_wheels_is_named(monkeypatch):
    monkeypatch.setattr(mxnet_import, "sys", SimpleNamespace(platform="win32"))
    with pytest.raises(ImportError, match="no package for win32"):
        mxnet_import._Missing().exec_module(ModuleType("mxnet"))


@pytest.mark.parametrize("version", [(3, 8, 18), (3, 14, 0)])
def test_a_python_out_of_range_is_named(monkeypatch, version):
    monkeypatch.setattr(process.sys, "version_info", version)
    with pytest.raises(ImportError, match=r"Python 3\.9 to 3\.13.*install Python 3\.11"):
        environment.prepare()


def test_another_mxnet_is_refused(monkeypatch):
    monkeypatch.setattr(mx, "__version__", "2.0.0")
    with pytest.raises(ImportError, match=r"needs MXNet 1\.9\.1, this is 2\.0\.0"):
        environment.prepare()


def test_mxnets_optional_imports_are_deferred():
    done = run(
        "import sys, gluondense\n"
        "assert not {'mxnet', 'numpy'} & set(sys.modules)\n"
        "import mxnet\n"
        "print(*{'cv2', 'h5py', 'onnx', 'pandas', 'requests', 'scipy', 'sklearn'}"
        " & {name for name, module in sys.modules.items() if module})\n"
        "print(mxnet.gluon.utils.requests.get.__module__,"
        " mxnet.contrib.quantization.stats.entropy([1, 1]) > 0.6)\n"
        "import sklearn.base",
    )
    assert done.stdout.splitlines() == ["", "requests.api True"], done.stderr
    assert done.returncode == 0, done.stderr


def test_mxnet_converts_sparse_matrices_of_scipy():
    done = run(
        "import sys, gluondense, mxnet, numpy\n"
        "mxnet.nd.array(numpy.eye(2))\n"
        "print('scipy' in sys.modules)\n"
        "import scipy.sparse\n"
        "array = mxnet.nd.sparse.array(scipy.sparse.csr_matrix(numpy.eye(2)))\n"
        "print(array.stype, mxnet.nd.array(array.asscipy()).asnumpy().sum())"
    )
    assert done.stdout.splitlines() == ["False", "csr 2.0"], done.stderr


def test_other_code_imports_as_usual_while_mxnet_is_imported():
    done = run(
        "import gluondense\n"
        "from gluondense.environment import mxnet_import\n"
        "with mxnet_import._deferred_imports():\n"
        "    import cv2, requests.adapters, scipy.stats, sklearn\n"
        "print(cv2.__version__ > '4', requests.__name__, scipy.stats.__name__, sklearn.__name__)"
    )
    assert done.stdout.split() == ["True", "requests", "scipy.stats", "sklearn"], done.stderr


def test_what_was_imported_before_mxnet_stays():
    done = run(
        "import gluondense, cv2, sklearn.base, mxnet\n"
        "print(mxnet.recordio.cv2 is cv2, issubclass(mxnet.model.FeedForward, "
        "sklearn.base.BaseEstimator))"
    )
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_only_missing_names_are_added():
    for name in environment.patches():
        package, _, attribute = name.rpartition(".")
        assert package in ("numpy", "numpy.core.numeric", "distutils", "mxnet.recordio"), name
        if package == "numpy":
            assert getattr(np, attribute) is compat.NUMPY_NAMES[attribute]
    assert len(set(environment.patches())) == len(environment.patches())


def test_removed_financial_functions_say_where_they_went():
    if "numpy.npv" in environment.patches():
        with pytest.raises(NotImplementedError, match="numpy_financial"):
            np.npv(0.1, [1, 2])


@pytest.mark.parametrize("label", [3.0, [1.0, 2.0, 5.0]], ids=["number", "vector"])
def test_recordio_packs_and_unpacks(label):
    packed = mx.recordio.pack(mx.recordio.IRHeader(0, label, 7, 0), b"payload")
    header, payload = mx.recordio.unpack(packed)
    np.testing.assert_array_equal(header.label, label)
    assert (header.id, payload) == (7, b"payload")


def test_recordio_packs_images():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    packed = mx.recordio.pack_img(mx.recordio.IRHeader(0, 1.0, 0, 0), image, 3, ".png")
    np.testing.assert_array_equal(mx.recordio.unpack_img(packed)[1], image)


def test_versions_compare_as_numbers():
    assert compat._Version("1.9.1") < compat._Version("1.10")
    assert compat._Version("2.5.5") >= "2.5"
    assert compat._Version("2.0.0rc1") == "2.0.0"


def test_distutils_stands_in_where_python_has_none(monkeypatch):
    def import_module(name):
        raise ImportError(name)

    monkeypatch.setattr(compat, "importlib", SimpleNamespace(import_module=import_module))
    monkeypatch.setattr(compat, "applied", [])  # the real list stays
    for name in ("distutils", "distutils.version"):
        monkeypatch.setitem(sys.modules, name, None)
    compat._add_distutils()
    from distutils.version import LooseVersion

    assert LooseVersion("1.17") < LooseVersion("1.21.6")
    assert compat.applied == ["distutils.version"]


def test_gluoncv_imports_beside_pytorch_2(tmp_path):
    (tmp_path / "torch.py").write_text("__version__ = '2.13.0'\n")
    code = (
        "import gluondense, torch; gluondense.environment.import_gluoncv(); "
        "import gluoncv, sys; print(sys.modules['torch'].__version__)"
    )
    path = os.pathsep.join([str(tmp_path), os.getcwd()])
    done = run(code, PYTHONPATH=path)
    assert done.stdout.strip() == "2.13.0", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="what a process was started with")
def test_threads_that_a_server_set_are_taken_back_and_the_users_kept(root):
    code = (
        "import os, gluondense.environment as environment\n"
        "os.environ['OMP_NUM_THREADS'] = '1'\n"
        "environment.drop_server_threads()\n"
        "print(os.environ.get('OMP_NUM_THREADS'))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    for more, expected in (({}, "None"), ({"OMP_NUM_THREADS": "3"}, "1")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, "PYTHONPATH": str(root), **more},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == expected
