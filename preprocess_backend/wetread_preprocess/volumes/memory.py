"""Reading and writing memory by its address, for kernels that walk over many arrays in one call.

An address is `array.ctypes.data`; whoever passes one keeps the array alive and the indices within it. Reads may lie at
odd addresses (pixels are views of a file's bytes); the compiler still reads them eight at a time.
"""

from typing import Any

import numpy as np

from wetread_preprocess.volumes.compiled import Primitive

Sample = np.int16 | np.uint16 | np.int8 | np.uint8 | np.float32


def _read(address: int, index: int, like: Sample) -> Sample:
    """Give element `index` of those from `address`, which are of the type of `like`."""
    raise NotImplementedError


def _write(address: int, index: int, value: np.float32) -> None:
    """Set float32 number `index` of those from `address`, a multiple of 4."""
    raise NotImplementedError


def _make_read() -> Any:
    from numba import types  # noqa: PLC0415  # at use, as in `compiled`
    from numba.extending import intrinsic  # noqa: PLC0415

    @intrinsic  # type: ignore[untyped-decorator]
    def read_at(_typing: Any, address: Any, index: Any, like: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            start = builder.inttoptr(arguments[0], context.get_value_type(like).as_pointer())
            return builder.load(builder.gep(start, [arguments[1]]), align=1)

        return like(types.int64, types.int64, like), generate

    return read_at


def _make_write() -> Any:
    from numba import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    @intrinsic  # type: ignore[untyped-decorator]
    def write_at(_typing: Any, address: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            start = builder.inttoptr(arguments[0], context.get_value_type(types.float32).as_pointer())
            builder.store(arguments[2], builder.gep(start, [arguments[1]]), align=4)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.float32), generate

    return write_at


read = Primitive(_read, _make_read)
write = Primitive(_write, _make_write)
