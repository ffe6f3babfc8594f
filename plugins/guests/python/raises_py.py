"""Raises an exception that it does not catch, which is a trap."""

from wit_world import exports


def look_up(key):
    raise ValueError(f"no index of {key}")


class Executor(exports.Executor):
    def execute(self, task):
        look_up(task.key)
