"""The import arrows between the packages, and what no file of the project may hold."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "wetread_preprocess": ROOT / "preprocess_backend",
    "wetread_postprocess": ROOT / "postprocess_backend",
    "wetread_embedded": ROOT / "embedded",
    "wetread_onnx": ROOT / "embedded" / "backends" / "onnxruntime",
    "wetread_client": ROOT / "client",
    "wetread_gateway": ROOT / "gateway",
    "wetread_models": ROOT / "tools",
    "wetread_release": ROOT / "tools",
    "wetread_bench": ROOT / "tools",
}
ARROWS = {
    "wetread_preprocess": set(),
    "wetread_postprocess": set(),
    "wetread_embedded": set(),
    "wetread_onnx": set(),
    "wetread_client": set(),
    "wetread_gateway": {"wetread_client"},
    "wetread_models": {"wetread_preprocess", "wetread_postprocess"},
    "wetread_release": {"wetread_client", "wetread_models", "wetread_embedded"},
    "wetread_bench": set(PACKAGES),
}
TRITON_FREE = ("wetread_preprocess", "wetread_postprocess", "wetread_onnx", "wetread_models")


def imports(path: Path) -> set[str]:
    """Top-level names of every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def modules(package: str) -> list[Path]:
    files = sorted((PACKAGES[package] / package).rglob("*.py"))
    assert files, package
    return files


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_along_its_arrows(package):
    for module in modules(package):
        foreign = {name for name in imports(module) if name.startswith("wetread_")} - {package}
        assert foreign <= ARROWS[package], f"{module.relative_to(ROOT)} imports {foreign - ARROWS[package]}"


@pytest.mark.parametrize("package", TRITON_FREE)
def test_packages_beside_a_backend_know_nothing_of_triton(package):
    for module in modules(package):
        assert not imports(module) & {"triton_python_backend_utils", "tritonclient"}, module


def test_postprocessing_needs_numpy_alone():
    for module in modules("wetread_postprocess"):
        foreign = imports(module) - sys.stdlib_module_names - {"numpy", "wetread_postprocess"}
        assert not foreign, f"{module.name} imports {foreign}"


@pytest.mark.parametrize("package", ["wetread_preprocess", "wetread_postprocess", "wetread_onnx"])
def test_a_backend_adapter_uses_only_the_package_beside_it(package):
    assert {name for name in imports(PACKAGES[package] / "model.py") if name.startswith("wetread_")} == {package}


def test_no_python_file_outgrows_its_reader():
    for path in tracked():
        if path.suffix == ".py":
            limit = 450 if path.is_relative_to(ROOT / "tests") else 300
            assert len(path.read_text().splitlines()) <= limit, path.relative_to(ROOT)


def test_no_two_test_modules_share_a_name():
    names = [path.name for path in tracked() if path.is_relative_to(ROOT / "tests") and path.name != "conftest.py"]
    assert sorted(set(names)) == sorted(names)


def test_locked_requirements_pin_every_package_and_name_no_index():
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        for line in lock.read_text().splitlines():
            if line and not line.startswith("#"):
                assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), f"{lock.name}: {line}"


def test_no_file_names_a_registry_host_or_a_home_of_this_machine():
    suspicious = re.compile(rb"pypi\.org|pythonhosted|/root/|/home/[a-z]|/work/(?:main|shared)")
    for path in tracked():
        if path.suffix not in (".onnx", ".npz") and path != Path(__file__):
            assert not suspicious.search(path.read_bytes()), path.relative_to(ROOT)


def test_no_label_code_or_threshold_is_spelt_outside_pipeline_json():
    for package in set(PACKAGES) - {"wetread_models", "wetread_bench", "wetread_onnx"}:
        for module in modules(package):
            text = module.read_text().lower()
            assert "pneumonia" not in text, module
            assert not {code for code in ("233604007", "389080008", "389081007") if code in text}, module
