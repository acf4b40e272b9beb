"""Dying on purpose: a child that ends, as by SIGKILL, at a chosen step of its work on disk."""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch

#: What changes a disk; a process may die before or after each.
_STEPS = [
    (os, "fsync"),
    (os, "rename"),
    (os, "replace"),
    (os, "unlink"),
    (os, "mkdir"),
    (os, "rmdir"),
    (shutil, "rmtree"),
]
_DIED = 77


def dies_at(step: int, work: Callable[[], object]) -> bool:
    """Do some work in a child process that ends without any clean-up at its n-th step on disk.

    Args:
        step: From 0 on: even ones are before a call that changes the disk, odd ones after it.
        work: What to do. It runs with one thread, since a fork has no others.

    Returns:
        Whether it died; it does not where the work has fewer steps.
    """
    child = os.fork()
    if child == 0:
        _work_and_exit(step, work)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, _DIED), "the work failed in the child: see its traceback above"
    return code == _DIED


def _work_and_exit(step: int, work: Callable[[], object]) -> None:
    left = [step]

    def count() -> None:
        if left[0] == 0:
            os._exit(_DIED)
        left[0] -= 1

    def stepping(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            count()
            result = function(*args, **options)
            count()
            return result

        return call

    try:
        torch.set_num_threads(1)
        for module, name in _STEPS:
            setattr(module, name, stepping(getattr(module, name)))
        work()
    except BaseException:  # noqa: BLE001 - whatever it is, the parent must not go on in two processes
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
