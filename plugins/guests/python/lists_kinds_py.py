"""Says of each entry of its mount what CPython takes it for, then removes it.

The note has a line each: `name listed=KIND lstat=KIND stat=KIND open=ANSWER
link=ANSWER remove=ANSWER`.
"""

import os
import stat

from wit_world import exports
from wit_world.exports.executor import Outcome_Done


def kind(mode):
    tests = [
        (stat.S_ISREG, "file"),
        (stat.S_ISDIR, "folder"),
        (stat.S_ISLNK, "link"),
        (stat.S_ISBLK, "block"),
        (stat.S_ISCHR, "char"),
    ]
    return next((name for is_it, name in tests if is_it(mode)), "other")


def answer(call, *arguments):
    try:
        return "ok", call(*arguments)
    except OSError as error:
        return os.strerror(error.errno), None


def listed(entry):
    # What the listing told, or what CPython asked for where it did not.
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "-"


def look(name, seen):
    path = f"/{name}"
    _, itself = answer(os.lstat, path)
    _, target = answer(os.stat, path)
    opened, file = answer(os.open, path, os.O_RDONLY)
    if file is not None:
        os.close(file)
    link, _ = answer(os.readlink, path)
    kinds = [kind(found.st_mode) if found else "none" for found in (itself, target)]
    link = "yes" if link == "ok" else "no"
    return f"{name} listed={seen} lstat={kinds[0]} stat={kinds[1]} open={opened} link={link}"


def remove(name, seen):
    return answer(os.rmdir if seen == "folder" else os.remove, f"/{name}")[0]


class Executor(exports.Executor):
    def execute(self, task):
        with os.scandir("/") as entries:
            found = [(entry.name, listed(entry)) for entry in entries]
        # Nothing goes before all were looked at: links lead from one to another.
        looked = [look(*entry) for entry in found]
        return Outcome_Done("".join(f"{line} remove={remove(*entry)}\n" for line, entry in zip(looked, found)))
