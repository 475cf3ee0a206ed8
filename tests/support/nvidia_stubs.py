"""Libraries compiled here in place of NVIDIA's."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from pathlib import Path

# A driver with one GPU.
DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return STATUS; }
int cuDriverGetVersion(int* version) { *version = 12040; return 0; }
int cuDeviceGetCount(int* count) { *count = 1; return 0; }
int cuDeviceGet(int* device, int number) { *device = number; return 0; }
int cuDeviceGetName(char* name, int size, int device) { strcpy(name, "NVIDIA H200"); return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  *value = attribute == 75 ? 9 : attribute == 76 ? 0 : -1;
  return 0;
}
"""


def compile_library(file, source):
    file.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{file.name}", "-o", file, "-x", "c", "-"]
    subprocess.run(command, input=source, text=True, check=True)


def mxnet_library(python: Path) -> Path:
    (library,) = python.parents[1].glob("lib/*/site-packages/mxnet/libmxnet.so")
    return library


def stubs(python: Path, folder: Path, status: int, hopper: bool = False) -> Path:
    """Compile NVIDIA's libraries that MXNet needs; each function returns a status.

    With ``hopper``, the driver and CUDA find the GPU of `DRIVER`.
    """
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", "--with-symbol-versions", mxnet_library(python)],
        capture_output=True,
        text=True,
        check=True,
    )
    functions = defaultdict(list)
    for line in listed.stdout.splitlines():
        name, _, library = line.split()[-1].partition("@")
        if library.startswith(("libcu", "libnv")):
            functions[library].append(name)
        elif not library and name.startswith(("ncc", "cu")):
            functions["libnccl.so.2" if name.startswith("nccl") else "libcuda.so.1"].append(name)
    folder.mkdir()
    for library, names in functions.items():
        known = DRIVER.replace("STATUS", "0") if hopper and library == "libcuda.so.1" else ""
        text = known + "".join(
            stub(name, status, hopper) for name in names if f" {name}(" not in known
        )
        (folder / "versions").write_text(f"{library} {{ global: *; }};")
        versions = f"-Wl,--version-script={folder / 'versions'}"
        command = ["gcc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{library}", versions]
        target = ["-o", folder / library, "-x", "c", "-"]
        subprocess.run([*command, *target], input=text, text=True, check=True)
    return folder


def stub(name: str, status: int, hopper: bool) -> str:
    if name.endswith(("ErrorString", "ErrorName")):
        return f'const char* {name}(void) {{ return "error {status}"; }}\n'
    if name.endswith("DriverGetVersion"):  # succeeds without a driver
        return f"long {name}(int* version) {{ *version = 11020; return 0; }}\n"
    if name == "cudaGetDeviceCount" and hopper:
        return f"long {name}(int* count) {{ *count = 1; return 0; }}\n"
    return f"long {name}(void) {{ return {status}; }}\n"
