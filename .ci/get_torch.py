"""Sees to it that the tests have torch: the one that is there, else a CPU build, else the default index's.

get_torch.py            returns 0 also where there is none to be had: tests that need none run without it
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import subprocess
import sys

VERSION = "2.13.0"
# A "+cpu" version names a build without CUDA, so no index can answer with one of gigabytes.
CPU_BUILD = f"torch=={VERSION}+cpu"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
DEFAULT = f"torch=={VERSION}"


def default_size() -> str:
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        return "the CUDA build: about 3 GB to download with its libraries, 7 GB on the disk"
    return "about 0.2 GB to download"


def say(text: str) -> None:
    print(f"cutplan: {text}", flush=True)


def is_there() -> bool:
    """A torch that is installed but cannot be imported is a fault, and pip would not mend it."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return False
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    say(f"torch {version} is there")
    return True


def install(requirement: str, *options: str) -> str | None:
    """None, or why it failed: the broken connection, which pip only warns of, else its last error."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--retries", "1"]
    command = [*pip, "install", "--only-binary", ":all:", *options, requirement]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode == 0:
        return None
    if broken := re.search(r"connection broken by '(.+)'", done.stdout):
        return broken[1]
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or [f"pip exits with {done.returncode}"])[-1]


def main() -> int:
    if is_there():
        return 0
    for what, requirement, *options in (
        (f"{CPU_BUILD} from the indices that pip is configured for, about 0.2 GB", CPU_BUILD),
        (f"{CPU_BUILD} from {CPU_INDEX}, about 0.2 GB", CPU_BUILD, "--index-url", CPU_INDEX),
        (
            f"{DEFAULT} from the indices that pip is configured for; the default one has {default_size()}",
            DEFAULT,
        ),
    ):
        say(f"getting {what}")
        why = install(requirement, *options)
        if why is None:
            return 0
        say(f"  no: {why}")
    say("no torch, so only the tests that need none will run. Two ways to it: an index that has it,")
    say("PIP_EXTRA_INDEX_URL=... make test; or a Python that has it, make test VENV=.venv-torch PYTHON=...")
    return 0


if __name__ == "__main__":
    sys.exit(main())
