"""Reading and writing memory by its address, for kernels that walk over many arrays in one call.

An address is `array.ctypes.data`; whoever passes one keeps the array alive and the indices within it. Reads may lie at
odd addresses (pixels are views of a file's bytes); the compiler still reads them eight at a time.
"""

from typing import Any, TypeAlias

import numpy as np

from wetread_preprocess.volumes.compiled import Primitive

Sample: TypeAlias = np.int16 | np.uint16 | np.int8 | np.uint8 | np.float32


def _read(address: int, index: int, like: Sample) -> float:
    """Give element `index` of those from `address`, which are of the type of `like`, as float32."""
    raise NotImplementedError


def _read_whole(address: int, index: int) -> int:
    """Give int32 number `index` of those from `address`."""
    raise NotImplementedError


def _write(address: int, index: int, value: float) -> None:
    """Set float32 number `index` of those from `address`, a multiple of 4."""
    raise NotImplementedError


def _make_read() -> Any:
    from numba import types  # noqa: PLC0415  # at use, as in `compiled`
    from numba.extending import intrinsic  # noqa: PLC0415

    @intrinsic  # type: ignore[untyped-decorator]
    def read_at(_typing: Any, address: Any, index: Any, like: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            start = builder.inttoptr(arguments[0], context.get_value_type(like).as_pointer())
            value = builder.load(builder.gep(start, [arguments[1]]), align=1)
            return context.cast(builder, value, like, types.float32)

        return types.float32(types.int64, types.int64, like), generate

    return read_at


def _make_read_whole() -> Any:
    from numba import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    @intrinsic  # type: ignore[untyped-decorator]
    def read_whole_at(_typing: Any, address: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            start = builder.inttoptr(arguments[0], context.get_value_type(types.int32).as_pointer())
            value = builder.load(builder.gep(start, [arguments[1]]), align=4)
            return context.cast(builder, value, types.int32, types.int64)

        return types.int64(types.int64, types.int64), generate

    return read_whole_at


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


def _turn(source: int, source_step: int, target: int, target_step: int) -> None:
    """Transpose 8 x 8 float32 numbers; steps: in numbers, from each eight that lie together to the next."""
    raise NotImplementedError


def _make_turn() -> Any:
    from llvmlite import ir  # type: ignore[import-untyped]  # noqa: PLC0415
    from numba import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    def shuffled(builder: Any, one: Any, other: Any, order: list[int]) -> Any:
        return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), 8), order))

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        single, eight = ir.FloatType(), ir.VectorType(ir.FloatType(), 8)

        def place(address: Any, step: Any, number: int) -> Any:
            start = builder.inttoptr(address, single.as_pointer())
            element = builder.gep(start, [builder.mul(step, ir.Constant(ir.IntType(64), number))])
            return builder.bitcast(element, eight.as_pointer())

        lines = [builder.load(place(arguments[0], arguments[1], n), align=4) for n in range(8)]
        for distance in (1, 2, 4):  # exchange the off-diagonal halves of ever larger squares
            for n in (n for n in range(8) if not n & distance):
                one, other = lines[n], lines[n + distance]
                kept = [k if not k & distance else 8 + k - distance for k in range(8)]
                lines[n] = shuffled(builder, one, other, kept)
                lines[n + distance] = shuffled(builder, one, other, [k + distance for k in kept])
        for n, line in enumerate(lines):
            builder.store(line, place(arguments[2], arguments[3], n), align=4)
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    @intrinsic  # type: ignore[untyped-decorator]
    def turn_at(_typing: Any, source: Any, source_step: Any, target: Any, target_step: Any) -> Any:
        return types.void(types.int64, types.int64, types.int64, types.int64), generate

    return turn_at


def _blend_eight(first: int, second: int, weight: float, target: int) -> None:
    """Write the eight float32 numbers that lie between eight and eight others."""
    raise NotImplementedError


def _add_eight(base: int, source: int, weight: float, target: int) -> None:
    """Write eight float32 numbers plus eight others times `weight`."""
    raise NotImplementedError


def _make_eight(blend: bool) -> Any:
    from llvmlite import ir  # noqa: PLC0415
    from numba import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        eight, contract = ir.VectorType(ir.FloatType(), 8), ("contract",)  # fused, as in the kernels
        first, second, target = (builder.inttoptr(arguments[n], eight.as_pointer()) for n in (0, 1, 3))
        one, other = builder.load(first, align=4), builder.load(second, align=4)
        weight = builder.insert_element(ir.Constant(eight, ir.Undefined), arguments[2], ir.Constant(ir.IntType(32), 0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8)
        weight = builder.shuffle_vector(weight, weight, everywhere)
        more = builder.fsub(other, one, flags=contract) if blend else other
        more = builder.fmul(more, weight, flags=contract)
        builder.store(builder.fadd(one, more, flags=contract), target, align=4)
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    @intrinsic  # type: ignore[untyped-decorator]
    def eight_at(_typing: Any, first: Any, second: Any, weight: Any, target: Any) -> Any:
        return types.void(types.int64, types.int64, types.float32, types.int64), generate

    return eight_at


read = Primitive(_read, _make_read)
read_whole = Primitive(_read_whole, _make_read_whole)
write = Primitive(_write, _make_write)
turn = Primitive(_turn, _make_turn)
blend_eight = Primitive(_blend_eight, lambda: _make_eight(True))
add_eight = Primitive(_add_eight, lambda: _make_eight(False))
