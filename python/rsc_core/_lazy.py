"""Public names of a package, each imported when it is first used.

A package that imported all its modules would make every stage load all of them, and the workflow would run a stage again
after an edit of a module that it does not use.
"""

import importlib


def public(package: str, modules: dict[str, str]):
    """What a package's ``__init__`` needs: ``__getattr__``, ``__dir__`` and ``__all__``.

    Parameters
    ----------
    package
        ``__name__`` of the package.
    modules
        Public name -> the module of the package that defines it.
    """
    names = sorted(modules)

    def find(name):
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return find, lambda: names, names
