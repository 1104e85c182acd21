"""What an index asks of a wheel beyond `twine check`: `metadata.py <wheel>`. Needs the group `wheel`."""

from __future__ import annotations

import pathlib
import re
import sys
import zipfile

from packaging.metadata import Metadata
from packaging.utils import parse_wheel_filename
from trove_classifiers import classifiers

LICENCES = {"LICENSE": "Apache License", "nanobind.txt": "Redistribution and use in source and binary forms"}
OF_KERNELS = {"CUTLASS.txt": "Redistribution and use in source and binary forms", "CUDA.txt": "NVIDIA"}


def faults(path: pathlib.Path) -> list[str]:
    found = []
    *_, tags = parse_wheel_filename(path.name)
    for tag in tags:
        if not tag.platform.startswith("manylinux"):
            found.append(f"tag {tag}: an index takes manylinux only")
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        (dist_info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        metadata = Metadata.from_email(wheel.read(f"{dist_info}/METADATA"), validate=True)
        libraries = [name for name in names if name.startswith("cutplan/lib/libcutplan.so")]
        with_kernels = any(b".nv_fatbin" in wheel.read(name) for name in libraries)
        if not libraries:
            found.append("cutplan/lib/libcutplan.so*: missing")
        for name, words in {**LICENCES, **(OF_KERNELS if with_kernels else {})}.items():
            text = f"{dist_info}/licenses/{name}"
            if text not in names or words not in wheel.read(text).decode():
                found.append(f"{text}: missing, or without the words {words!r}")
    if grafted := [name for name in names if name.startswith("cutplan.libs/")]:
        found.append(f"{', '.join(grafted)}: a library of the build machine; cutplan needs none")
    if unknown := sorted(set(metadata.classifiers or ()) - classifiers):
        found.append(f"unknown classifiers: {', '.join(unknown)}")
    if "attention" not in (metadata.summary or ""):
        found.append(f"the summary does not name attention: {metadata.summary}")
    for link in re.findall(r"\]\((?!https?:|#)([^)]*)\)|src=\"(?!https?:)", metadata.description or ""):
        found.append(f"a link of the description leads nowhere on an index: {link}")
    return found


def main(path: pathlib.Path) -> None:
    found = faults(path)
    for fault in found:
        print(f"{path.name}: {fault}")
    if found:
        sys.exit(1)
    print(f"{path.name}: tags, licences, classifiers and links are as an index wants them")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
