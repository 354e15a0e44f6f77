"""Builds the wheel of this package (PEP 517) with nothing but the standard library.

A machine with cameras is often on a network without a package index: `pip install ./ring-abi/python` works there, because nothing
is fetched to build. What it says stands in pyproject.toml.
"""

import base64
import hashlib
import pathlib
import re
import zipfile

HERE = pathlib.Path(__file__).resolve().parent


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Writes the wheel into `wheel_directory`; its file name."""
    project = (HERE / "pyproject.toml").read_text()

    def of(key):
        return re.search(rf'^{key} = "(.*)"$', project, re.MULTILINE)[1]

    name, version = of("name").replace("-", "_"), of("version")
    info = f"{name}-{version}.dist-info"
    classifiers = re.search(r"^classifiers = \[(.*?)\]$", project, re.MULTILINE | re.DOTALL)[1]
    script = re.search(r'^\[project\.scripts\]\n(\S+) = "(.*)"$', project, re.MULTILINE)
    metadata = [
        "Metadata-Version: 2.1",
        f"Name: {of('name')}",
        f"Version: {version}",
        f"Summary: {of('description')}",
        f"Requires-Python: {of('requires-python')}",
        "License: MIT OR Apache-2.0",
        *(f"Classifier: {classifier}" for classifier in re.findall(r'"(.*?)"', classifiers)),
        "Description-Content-Type: text/markdown",
        "",
        (HERE / "README.md").read_text(),
    ]
    package = HERE / "src" / name
    files = {
        path.relative_to(HERE / "src").as_posix(): path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.suffix == ".py" or path.name == "py.typed"
    }
    files[f"{info}/METADATA"] = "\n".join(metadata).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: vms-ring\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script[1]} = {script[2]}\n".encode()
    record = [f"{path},sha256={digest(data)},{len(data)}" for path, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    wheel = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return wheel


def digest(data):
    """As RECORD wants it."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
