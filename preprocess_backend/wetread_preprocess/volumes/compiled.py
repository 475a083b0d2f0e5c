"""Kernels: typed functions that numba compiles to machine code, once a machine, outside every request.

Use, in any module of this package:

    @kernel("void(float32[:, ::1], float32)")
    def scale(values: FloatPlane, factor: float) -> None:
        for row in range(values.shape[0]):
            ...

The decorated name is called like the function, with the same types for mypy. The signatures are numba's, as strings
(its types by name: `Array(int16, 2, 'A', readonly=True, aligned=False)` takes any layout and address); nothing but
them is ever compiled, so that a call with other types is a TypeError and never a second of compiling in a request.
A kernel may call kernels of its own and of other modules. All run without the GIL: threads are the caller's.

numba is imported at the first call or at `compile_kernels`, never at import. Machine code is kept in NUMBA_CACHE_DIR
(else in `__pycache__` beside the sources), in a folder named after the contents of every module here that has kernels:
a package that is replaced, by whatever clock, gets a new folder and the old one is left to the old package. Processes
take turns by a lock in that folder, so that two which start at once compile once. Where it cannot be written, the
kernels are compiled at each start; a damaged cache is made anew. The cache holds code: nobody but the server's user
may write to it.
"""

import contextlib
import fcntl
import functools
import hashlib
import logging
import os
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, Generic, ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)
_turn = threading.RLock()
_kernels: "list[Kernel[..., Any]]" = []

# Sums may be taken in another order and products fused into them; NaN, infinities and signed zeros stay what they are.
_FAST_MATH = {"contract", "reassoc", "arcp"}
_DAMAGED = (
    EOFError,
    OSError,
    ImportError,
    AttributeError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    pickle.PickleError,
)


class Kernel(Generic[_Arguments, _Result]):
    """A function that is compiled before it first runs."""

    def __init__(self, function: Callable[_Arguments, _Result], signatures: tuple[str, ...]) -> None:
        self.__doc__ = function.__doc__
        self.function = function
        self.signatures = signatures
        self._compiled: Callable[_Arguments, _Result] | None = None

    def __call__(self, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        """Run it; compiles it where `compile_kernels` has not."""
        return (self._compiled or self.compiled())(*args, **kwargs)

    def compiled(self) -> Callable[_Arguments, _Result]:
        """Compile it or fetch it from the cache."""
        with _turn:
            if self._compiled is None:
                with _cache_folder() as folder:
                    self._compiled = self._compile(folder)
            return self._compiled

    def _compile(self, folder: Path | None) -> Callable[_Arguments, _Result]:
        import numba  # noqa: PLC0415  # half a second and 60 MB that a film-only server does not pay

        def build(cached: bool) -> Any:
            options: dict[str, Any] = {"nogil": True, "cache": cached, "error_model": "numpy", "fastmath": _FAST_MATH}
            decorate = numba.njit(list(self.signatures), **options) if self.signatures else numba.njit(**options)
            return decorate(_with_compiled_names(self.function))

        before = numba.config.CACHE_DIR
        try:
            if folder is None:
                return build(False)  # type: ignore[no-any-return]
            numba.config.CACHE_DIR = str(folder)
            try:
                return build(True)  # type: ignore[no-any-return]
            except _DAMAGED:
                _log.warning("the kernels' cache in %s is damaged and is made anew", folder)
                _empty(folder)
                return build(True)  # type: ignore[no-any-return]
        finally:
            numba.config.CACHE_DIR = before


def kernel(*signatures: str) -> Callable[[Callable[_Arguments, _Result]], Kernel[_Arguments, _Result]]:
    """Make a kernel of a function; see the module. Without signatures: only for other kernels to call."""

    def decorate(function: Callable[_Arguments, _Result]) -> Kernel[_Arguments, _Result]:
        made = Kernel(function, signatures)
        _kernels.append(made)
        return made

    return decorate


def compile_kernels() -> None:
    """Compile all kernels of the modules that are imported, or fetch them from the cache; again costs nothing."""
    for each in tuple(_kernels):
        if each.signatures:
            each.compiled()


class Primitive(Generic[_Arguments, _Result]):
    """What kernels call and Python cannot: an intrinsic, built by `make` when a kernel that names it is compiled."""

    def __init__(self, signature: Callable[_Arguments, _Result], make: Callable[[], object]) -> None:
        self.__doc__ = signature.__doc__
        self._make = make
        self._made: object = None

    def __call__(self, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        """Only within a kernel."""
        raise TypeError("a primitive is called by kernels alone")

    def compiled(self) -> object:
        """The form that numba knows."""
        self._made = self._made or self._make()
        return self._made


def _with_compiled_names(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with every kernel that it calls in the form that numba knows.

    numba's cache tells functions apart by the path of their file: links to this package are one package.
    """
    assert isinstance(function, FunctionType)
    code = function.__code__.replace(co_filename=os.path.realpath(function.__code__.co_filename))
    names = {
        name: value.compiled() if isinstance(value, Kernel | Primitive) else value
        for name, value in function.__globals__.items()
        if name in function.__code__.co_names or name.startswith("__")
    }
    twin = FunctionType(code, names, function.__name__, function.__defaults__)
    twin.__qualname__ = function.__qualname__
    return twin


_held: set[Path] = set()


@contextlib.contextmanager
def _cache_folder() -> Iterator[Path | None]:
    """Hold this code's cache folder for this process alone; None where it cannot be written."""
    folder = _root() / f"wetread-{_digest()}"
    if folder in _held:  # a kernel that is compiled for another one's sake
        yield folder
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+b")
    except OSError:
        _log.info("no kernel cache can be kept in %s: compiling at each start", folder)
        yield None
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _held.add(folder)
        try:
            yield folder
        finally:
            _held.remove(folder)


def _root() -> Path:
    named = os.environ.get("NUMBA_CACHE_DIR")
    return Path(named) if named else Path(__file__).parent / "__pycache__"


@functools.cache
def _digest() -> str:
    """Name the code: numba's own stamp sees one file, not the kernels of another that were compiled into it."""
    contents = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_bytes()
        if b"@kernel(" in source:
            contents.update(source)
    return contents.hexdigest()[:16]


def _empty(folder: Path) -> None:
    for each in folder.iterdir():
        if each.is_dir():
            shutil.rmtree(each, ignore_errors=True)
