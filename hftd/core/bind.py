"""Binding: a loop template plus the functions that fill its slots gives one compiled loop, cached like any other.

A function passed to Numba as an argument or closed over can never be cached, and a function pointer cannot be inlined. So a
template names its slots as globals (`turn = None`), and `bind` clones it with those globals set. The clone's `__qualname__`
carries the binding's name, so profiles and certificates say which strategy a loop belongs to.
"""

import types

from hftd.core.cache import source_digest
from hftd.core.jit import hot


def clone(template, name: str, **slots):
    """Return a copy of the plain function `template` with `slots` as its globals, called `template__name`."""
    function = types.FunctionType(
        template.__code__, {**template.__globals__, **slots}, template.__name__, template.__defaults__, template.__closure__
    )
    function.__qualname__ = f"{template.__qualname__}__{name}"
    function.__module__ = template.__module__
    function.__doc__ = template.__doc__
    return function


def bind(template, name: str, salt: str = "", **slots):
    """Return the compiled loop made of `template` (a plain function) with `slots` filled.

    `name` must tell this binding from every other of the same template. The digest takes in the sources of every slot that
    is a function, and everything the slots reach (`cache.reached`), bound clones inside bound clones included; `salt` adds what
    neither can see.
    """
    parts = [name, salt]
    for key, value in sorted(slots.items()):
        module = getattr(getattr(value, "py_func", value), "__module__", None)
        if callable(value) and module:
            parts.append(f"{key}={source_digest(module)}")
    return hot(clone(template, name, **slots), salt="|".join(parts))
