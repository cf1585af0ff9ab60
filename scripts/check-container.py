#!/usr/bin/env python3
"""Checks what can be checked of Packaging/Containerfile without a container engine.

    scripts/check-container.py STAGE     STAGE: an installed tree, as make install DESTDIR=STAGE leaves it

Its packages are known to apt; every library that the installed programs need comes with Swift's part of
the build, or with a package of the last stage; what it copies and starts is there after make install.
"""

import pathlib
import re
import shutil
import subprocess
import sys

RECIPE = pathlib.Path(__file__).resolve().parent.parent / "Packaging" / "Containerfile"
# In every image of Debian.
ALWAYS = {"libc6", "libgcc-s1"}


def fail(words):
    sys.exit(f"check-container: {words}")


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def stages(text):
    """The instructions of each stage, one a line."""
    lines = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^\s*#.*\n", "", text))
    return [part.strip().splitlines() for part in re.split(r"(?m)^(?=FROM )", lines) if part.strip()]


def packages(stage):
    """What apt-get install is given."""
    return {
        name
        for line in stage
        for command in re.findall(r"apt-get install ([^&]*)", line)
        for name in command.split()
        if not name.startswith("-")
    }


def owner(library):
    """The package of a file; links between / and /usr are as in Debian, where both names are one."""
    for name in (library, str(pathlib.Path(library).resolve()), library.removeprefix("/usr")):
        found = output("dpkg-query", "--search", name)
        if found:
            return found.split(":")[0]
    return None


def needed(files):
    """The package of each library that a file asks for; what those need, their packages bring."""
    for file in files:
        asked = set(re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "--dynamic", str(file))))
        if not asked:
            fail(f"readelf says nothing about {file}")
        for name, path in re.findall(r"^\s*(\S+) => (\S+)", output("ldd", str(file)), re.M):
            if name not in asked:
                continue
            if path == "not":
                fail(f"{file} needs {name}, which is not here")
            yield file, name, owner(path)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if not shutil.which("apt-cache") or not shutil.which("dpkg-query"):
        print("check-container: skipped, no apt here")
        return
    stage = pathlib.Path(sys.argv[1])
    build, runtime = stages(RECIPE.read_text())

    for name in packages(build) | packages(runtime):
        if "Candidate: (none)" in (policy := output("apt-cache", "policy", name)) or not policy:
            fail(f"apt knows no package {name}")

    # A stage of DESTDIR and PREFIX, copied whole.
    install = re.search(r"make install PREFIX=(\S+) DESTDIR=(\S+)", "\n".join(build))
    copied = re.search(r"COPY --from=build (\S+) (\S+)", "\n".join(runtime))
    if not install or not copied or copied[1] != install[2] + install[1] or copied[2] != install[1]:
        fail("what is copied from the build stage is not what was installed there")
    start = re.search(r'ENTRYPOINT \["([^"]+)"', "\n".join(runtime))[1]
    programs = [file for file in stage.rglob("*") if file.is_file() and file.name in ("mori-ep",)]
    if start != f"{install[1]}/bin/mori-ep" or not programs:
        fail(f"there is no {start} after make install")

    libraries = [file for file in stage.rglob("libmoriep_host.so*") if not file.is_symlink()]
    for file, name, package in needed(programs + libraries):
        if package is None or package not in packages(runtime) | ALWAYS:
            fail(f"{file.name} needs {name} of {package}, which the last stage does not install")
    print("check-container: packages, libraries and paths are right; no image was built")


main()
