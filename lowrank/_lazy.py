"""Public names that load their module on first use (PEP 562), safe where a function and its file share a name."""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType


class _Package(ModuleType):
    """Importing ``package.cur`` makes Python set ``package.cur`` to the file; the public function must win."""

    def __setattr__(self, name, value):
        public = self.__dict__.get("_EXPORTS", {})
        if name in public and isinstance(value, ModuleType) and public[name] == name:
            return
        super().__setattr__(name, value)


def attach(package: str, exports: dict[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` for `package`, whose public `exports` map a name to the file that defines it."""
    sys.modules[package].__class__ = _Package

    def get(name: str) -> object:
        if name not in exports:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{exports[name]}")
        value = module if exports[name] == name and not hasattr(module, name) else getattr(module, name)
        sys.modules[package].__dict__[name] = value
        return value

    return get, lambda: sorted(exports)
