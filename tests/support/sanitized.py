"""The native operator's sources built with sanitizers, and its programs of exported networks."""

from __future__ import annotations

import importlib
import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import mxnet as mx

import gluondense
from gluondense.deploy import Calibration
from support.exported_networks import VARIANTS, variants
from support.exported_networks import build as build_network
from support.paths import ROOT

build = importlib.import_module("gluondense.native.build")  # native.build is a function

TESTS = ROOT / "tests" / "native"
OPTIMIZED = ("-O1", "-g1", "-std=c++17", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")
ADDRESS = (*OPTIMIZED, "-fopenmp", "-fsanitize=address,undefined")
# Without OpenMP, and with another threads.h.
THREAD = (*OPTIMIZED, "-fsanitize=thread", "-Wno-unknown-pragmas", f"-I{TESTS / 'std_threads'}")
TARGETS = ("native", "native_int8", "native_bf16")
# Layers that stay in float32, for two more programs in int8: values are converted in and behind
# these layers.
EXCLUDED = (("*stem*", "*stage1*"), ("*stage2*",))
# A flag of /proc/cpuinfo for each instruction set, the newest first.
CPU_FLAGS = {
    "amx": "amx_bf16",
    "avx512bf16": "avx512_bf16",
    "avx512vnni": "avx512_vnni",
    "avx512": "avx512vl",
    "avx2": "avx2",
}


def newest_isa() -> str:
    """Return the newest instruction set that the processor and the compiler know."""
    try:
        compiler = build.find_compiler()
    except build.CompilerError:
        return "base"  # the tests are skipped
    file = Path("/proc/cpuinfo")
    flags = set(file.read_text().split()) if file.exists() else set()
    for isa, flag in CPU_FLAGS.items():
        wanted = build.INSTRUCTION_SETS.get(isa)
        if wanted and flag in flags and build._knows(compiler, isa, wanted):
            return isa
    return "base"


def compile_objects(folder: Path, flags: Sequence[str], isas: Sequence[str]) -> list[Path]:
    """Compile the operators, without MXNet's part, for some instruction sets."""
    sources = [*build.SOURCES.glob("*.cc"), build.SOURCES / "kernels" / "dispatch.cc"]
    for room in ("inference", "runtime", "training"):
        sources += (build.SOURCES / room).rglob("*.cc")
    has = [f"-DGLUONDENSE_HAS_{isa}" for isa in isas]
    units = [(file, file.stem, has) for file in sources if not file.stem.endswith("_operator")]
    for isa in isas:
        names = [f"-DGLUONDENSE_ISA_NAMESPACE={isa}", f'-DGLUONDENSE_ISA_NAME="{isa}"']
        options = [*build.INSTRUCTION_SETS[isa], *names]
        units += [(f, f"{f.stem}_{isa}", options) for f in build.PER_ISA.glob("*.cc")]

    def compile_unit(unit: tuple[Path, str, list[str]]) -> Path:
        file, stem, options = unit
        run_compiler([*flags, *options, "-c", file, "-o", folder / f"{stem}.o"])
        return folder / f"{stem}.o"

    with ThreadPoolExecutor(build.usable_cores()) as pool:
        return list(pool.map(compile_unit, units))


def link(folder: Path, flags: Sequence[str], name: str, objects: Sequence[Path]) -> Path:
    """Compile a program of tests/native and link it."""
    run_compiler([*flags, TESTS / f"{name}.cc", *objects, "-o", folder / name, "-lgomp"])
    return folder / name


def compile_boxes(folder: Path) -> Path:
    """Compile boxes_check.cc with MXNet's part of an extension."""
    mxnet = Path(mx.__file__).parent
    units = {
        build.SOURCES / "inference" / "boxes_operator.cc": (),
        mxnet / "src" / "lib_api.cc": ("-fno-sanitize=undefined",),  # not ours
        TESTS / "boxes_check.cc": (),
    }
    include = ("-isystem", mxnet / "include")
    objects = [folder / f"{file.stem}.o" for file in units]
    for (file, flags), target in zip(units.items(), objects):
        run_compiler([*ADDRESS, *include, *flags, "-c", file, "-o", target])
    run_compiler([*ADDRESS, *objects, "-o", folder / "boxes_check"])
    return folder / "boxes_check"


def run_compiler(arguments: Sequence[object]) -> None:
    command = [*build.find_compiler(), *arguments, f"-I{build.SOURCES}"]
    subprocess.run(list(map(str, command)), check=True)


def exported_programs(folder: Path) -> list[str]:
    """Export small networks of all families to all native targets; return their programs."""
    programs = []
    for variant in variants("native"):
        net = build_network(*VARIANTS[variant])
        shape = (1, net.spec.in_channels, 32, 32)
        calibration = Calibration(mx.nd.random.normal(shape=(4, *shape[1:])), max_changed=1)
        exports = [(target, calibration) for target in TARGETS if variant in variants(target)]
        if variant in variants("native_int8"):
            exports += [("native_int8", replace(calibration, exclude=names)) for names in EXCLUDED]
        for target, calibration in exports:
            options = {"calibration": calibration} if target == "native_int8" else {}
            files = gluondense.export(net, folder / f"{variant}-{target}", shape, target, **options)
            nodes = json.loads(files.symbol.read_text())["nodes"]
            programs.append(nodes[-1]["attrs"]["program"])
    return programs
