"""Set Fairmark up in `.venv`, from nothing but Python 3.11 or newer. Standard library only.

Neither ensurepip (Debian's python3-venv) nor an installed pip is needed: the environment is made without pip, and the
pip wheel beside this file installs into it what requirements*.txt pin, each file checked against its hash. A stamp
remembers what was installed, so that a second run costs nothing.

    python3 scripts/setup.py            what running needs
    python3 scripts/setup.py --dev      what tests, linters and benchmarks need as well
"""

import hashlib
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PIP = next((ROOT / "scripts" / "vendor").glob("pip-*.whl"))


def python() -> Path:
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def fingerprint(requirements: Path) -> str:
    digest = hashlib.sha256(f"{sys.version}{ROOT}".encode())
    for path in (requirements, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def pip(*arguments: str) -> None:
    command = [str(python()), str(PIP / "pip"), "-qq", "--disable-pip-version-check", "--no-input", "install"]
    if subprocess.call([*command, *arguments], cwd=ROOT):
        sys.exit("setup: pip could not install what Fairmark needs (its message is above); mend that and run again")


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - says so, where a syntax error would not
        sys.exit(f"setup: Fairmark needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    dev = "--dev" in sys.argv[1:]
    requirements = ROOT / ("requirements-dev.txt" if dev else "requirements.txt")
    wanted = fingerprint(requirements)
    stamps = [VENV / "fairmark-dev.stamp"] if dev else [VENV / "fairmark.stamp", VENV / "fairmark-dev.stamp"]
    dev_wanted = fingerprint(ROOT / "requirements-dev.txt")
    if python().exists() and any(stamp.exists() and stamp.read_text() in {wanted, dev_wanted} for stamp in stamps):
        return
    started = time.monotonic()
    print("setup: making .venv", file=sys.stderr, flush=True)
    if not python().exists():
        venv.create(VENV, with_pip=False, symlinks=os.name != "nt")
    count = sum(1 for line in requirements.read_text().splitlines() if "==" in line)
    print(f"setup: installing {count} pinned packages (a minute or so the first time)", file=sys.stderr, flush=True)
    pip("--require-hashes", "--requirement", str(requirements))
    pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    stamps[0].write_text(wanted)
    print(f"setup: done in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("setup: interrupted; run it again, and it goes on where it was")
