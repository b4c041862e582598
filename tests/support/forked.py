"""Work in a child process, whose affinity, scheduling class, limits and user end with it."""

import ast
import os
import traceback


def forked(work):
    """Run `work()` in a child and return what it returned (a value that repr can write). A child that fails fails the test."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(write_end, repr(work()).encode())
            code = 0
        except BaseException:
            os.write(write_end, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, said
    return ast.literal_eval(said)
