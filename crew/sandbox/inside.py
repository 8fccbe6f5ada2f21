"""The program inside the jail: it locks itself in, then runs the code it was given.

Run as a script, by `python -I`, with a JSON order on standard input; it imports the standard
library alone. Nothing of the order's code runs if any part of the jail could not be applied.

Source: Landlock, landlock(7); seccomp filters, seccomp(2); capabilities, capabilities(7).
"""

import ast
import ctypes
import json
import os
import resource
import struct
import sys
import traceback

NOT_JAILED = 97
"""Exit status: the jail could not be applied, and the code was not run."""

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22
_PR_SET_DUMPABLE, _PR_CAPBSET_DROP = 4, 24
_SIGKILL, _SECCOMP_MODE_FILTER = 9, 2
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_VERSION = 1
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION = 0x20080522

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_ALL_RIGHTS = (1 << 16) - 1

_LOAD, _EQUAL, _AT_LEAST, _AND_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _REFUSE, _MISSING = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_CLONE_THREAD = 0x00010000
_X32_BIT = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


class NotJailed(Exception):
    """A part of the jail could not be applied."""


def main() -> None:
    """Read the order, lock the door, run the code."""
    order = json.loads(sys.stdin.buffer.read())
    sys.stdin.close()
    try:
        _lock_in(order)
    except (NotJailed, OSError, ValueError, struct.error) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}")
        sys.stderr.flush()
        os._exit(NOT_JAILED)
    status = _run(order["code"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def landlock_abi() -> int:
    """Return the version of Landlock that this kernel offers; 0 if none."""
    return max(0, _libc.syscall(_LANDLOCK_CREATE, None, 0, _LANDLOCK_VERSION))


def _lock_in(order: dict) -> None:  # type: ignore[type-arg]
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0), "die with the parent")
    if os.getppid() != order["parent"]:
        raise NotJailed("the parent is gone")
    _limit(order)
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    _checked(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "not dumpable")
    _fence_files(order["readable"], order["devices"], order["scratch"])
    _drop_capabilities(order["machine"])
    _filter_calls(order)


def _limit(order: dict) -> None:  # type: ignore[type-arg]
    seconds = order["cpu_seconds"]
    for what, soft, hard in (
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (resource.RLIMIT_AS, order["memory_bytes"], order["memory_bytes"]),
        (resource.RLIMIT_FSIZE, order["file_bytes"], order["file_bytes"]),
        (resource.RLIMIT_NOFILE, 64, 64),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        resource.setrlimit(what, (soft, hard))


def _fence_files(readable: list[str], devices: list[str], scratch: str) -> None:
    abi = landlock_abi()
    if abi < 1:
        raise NotJailed("the kernel has no Landlock")
    handled = _RIGHTS_BY_ABI.get(abi, _ALL_RIGHTS)
    attributes = struct.pack("=Q", handled)
    # From version 4 on TCP, from 6 on abstract sockets and signals; what seccomp refuses anyway.
    if abi >= 4:
        attributes += struct.pack("=Q", 0b11)
    if abi >= 6:
        attributes += struct.pack("=Q", 0b11)
    ruleset = _checked(
        _libc.syscall(_LANDLOCK_CREATE, attributes, len(attributes), 0), "Landlock's rule set"
    )
    for path in readable:
        _allow(ruleset, path, _READ & handled)
    for path in devices:
        _allow(ruleset, path, (_READ_FILE | _WRITE_FILE) & handled)
    _allow(ruleset, scratch, handled & ~_EXECUTE)
    _checked(_libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0), "Landlock")
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # not every system has every folder
    try:
        if not os.path.isdir(path):  # noqa: PTH112  the smallest start-up
            rights &= _FILE_RIGHTS
        rule = struct.pack("=Qi", rights, handle)
        _checked(_libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0), f"Landlock's rule for {path}")
    finally:
        os.close(handle)


def _drop_capabilities(machine: str) -> None:
    """Even root is nobody inside."""
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    nothing = struct.pack("=6I", *[0] * 6)
    _checked(_libc.syscall(_CAPSET[machine], header, nothing), "dropping capabilities")


def _filter_calls(order: dict) -> None:  # type: ignore[type-arg]
    program = _program(order["arch"], order["refused"], *order["clones"])
    code = b"".join(struct.pack("=HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = struct.pack("=HxxxxxxQ", len(program), ctypes.addressof(buffer))
    _checked(
        _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_, 0, 0), "the seccomp filter"
    )


def _program(
    arch: int, refused: list[int], clone: int, clone3: int
) -> list[tuple[int, int, int, int]]:
    """Return the filter in classic BPF: (code, jump if true, jump if false, operand)."""
    steps = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _KILL),
        (_EQUAL, 0, 1, clone3),
        (_RETURN, 0, 0, _MISSING),
        (_EQUAL, 0, 4, clone),
        (_LOAD, 0, 0, 16),
        (_AND_SET, 1, 0, _CLONE_THREAD),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    for number in refused:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    return [*steps, (_RETURN, 0, 0, _ALLOW)]


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise NotJailed(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _run(code: str) -> int:
    space = {"__name__": "__main__"}
    try:
        tree = ast.parse(code, "<code>")
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr):
            tree.body.pop()
        exec(compile(tree, "<code>", "exec"), space)  # noqa: S102  what the jail is for
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<code>", "eval"), space)  # noqa: S307
            if value is not None:
                print(value)  # noqa: T201
    except SystemExit as done:
        return 0 if done.code in (None, 0) else 1
    except BaseException:  # noqa: BLE001  jailed code may raise anything
        lines = traceback.format_exc().splitlines()
        sys.stderr.write("\n".join(line for line in lines if "inside.py" not in line))
        return 1
    return 0


if __name__ == "__main__":
    main()
