"""Parse and compile with TensorRT's Python API, versions 10 and 11: what a GPU server runs, and any CPU's tests.

Only the compiler's process imports this module's TensorRT: its libraries must be found before Python starts.
"""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

from wetread_release.tensorrt.jobs import Compiled, Job, ParserError, whole_file
from wetread_release.tensorrt.plan import HEADER_BYTES

if TYPE_CHECKING:
    from types import ModuleType

    import tensorrt as trt  # type: ignore[import-not-found,import-untyped,unused-ignore] # checked where its stubs are

_MIB = 1 << 20
_CUDA_NOISE = "catchCudaError"  # said once a call on a machine without a GPU


class Engines:
    """A TensorRT that works through jobs."""

    def __init__(self, module: str) -> None:
        """Import TensorRT under its name here, `tensorrt` or `tensorrt_bindings`."""
        self._trt = importlib.import_module(module)
        self._log = _Log.of(self._trt)
        self._builder: trt.Builder = self._trt.Builder(self._log.logger)

    @property
    def version(self) -> str:
        """Give TensorRT's version."""
        return str(self._trt.__version__)

    def run(self, job: Job) -> Compiled:
        """Parse the model and, where the parser takes it, compile it."""
        self._log.clear()
        network = self._network()
        parser = self._parser(network)
        started = time.perf_counter()
        taken = parser.parse_from_file(job.model)
        parse_s = time.perf_counter() - started
        if not taken:
            errors = tuple(_error(parser.get_error(index)) for index in range(parser.num_errors))
            return Compiled(
                self.version, parse_s, errors, self._unknown(parser, job) if errors else (), self._log.lines
            )
        return self._compile(network, job, parse_s)

    def _compile(self, network: trt.INetworkDefinition, job: Job, parse_s: float) -> Compiled:
        config = self._config(job)
        self._log.clear()
        started = time.perf_counter()
        plan = self._builder.build_serialized_network(network, config)
        build_s = time.perf_counter() - started
        if plan is None:
            return Compiled(self.version, parse_s, log=self._log.lines, build_s=build_s)
        if job.plan:
            _write(Path(job.plan), plan)
        if job.timings:
            _write(Path(job.timings), config.get_timing_cache().serialize())
        header = bytes(memoryview(plan)[:HEADER_BYTES]).hex()  # type: ignore[arg-type,unused-ignore] # the same
        return Compiled(self.version, parse_s, (), (), self._log.lines, plan.nbytes, header, build_s)

    def _network(self) -> trt.INetworkDefinition:
        flags = self._trt.NetworkDefinitionCreationFlag
        # TensorRT 10 has to be told; from 11 on every network is strongly typed, and precision stands in the ONNX
        return self._builder.create_network(1 << int(flags.STRONGLY_TYPED))

    def _parser(self, network: trt.INetworkDefinition) -> trt.OnnxParser:
        return cast("trt.OnnxParser", self._trt.OnnxParser(network, self._log.logger))

    def _config(self, job: Job) -> trt.IBuilderConfig:
        options = job.options
        config = self._builder.create_builder_config()
        config.profiling_verbosity = self._trt.ProfilingVerbosity.DETAILED
        if options.workspace_mib:
            config.set_memory_pool_limit(self._trt.MemoryPoolType.WORKSPACE, options.workspace_mib * _MIB)
        if options.version_compatible:
            config.set_flag(self._trt.BuilderFlag.VERSION_COMPATIBLE)
        if options.hardware_compatible:
            config.hardware_compatibility_level = self._trt.HardwareCompatibilityLevel.AMPERE_PLUS
        if job.profiles:
            profile = self._builder.create_optimization_profile()
            for each in job.profiles:
                shapes = (self._trt.Dims(shape) for shape in (each.minimum, each.optimum, each.maximum))
                profile.set_shape(each.name, *shapes)
            config.add_optimization_profile(profile)
        if job.timings:
            known = Path(job.timings).read_bytes() if Path(job.timings).is_file() else b""
            config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)
        return config

    def _unknown(self, parser: trt.OnnxParser, job: Job) -> tuple[str, ...]:
        """Ask for every operator of the model: the parser itself stops at the first of some kinds."""
        from wetread_release.tensorrt.graph import operators  # noqa: PLC0415 - needs onnx

        return tuple(name for name in operators(Path(job.model)) if not parser.supports_operator(name))


def _error(error: trt.ParserError) -> ParserError:
    return ParserError(error.node(), error.node_name(), error.node_operator(), error.desc(), error.func())


def _write(path: Path, content: trt.IHostMemory) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(memoryview(content))  # type: ignore[arg-type,unused-ignore] # its stubs hide the buffer


class _Log:
    """Errors and warnings of TensorRT, in order."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self.logger: trt.ILogger

    @classmethod
    def of(cls, module: ModuleType) -> _Log:
        """Make one; its base class is known only once TensorRT is imported."""
        log = cls()

        class Logger(module.ILogger):  # type: ignore[name-defined,misc] # known only now
            def __init__(self) -> None:
                module.ILogger.__init__(self)

            def log(self, severity: trt.ILogger.Severity, message: str) -> None:
                if severity <= module.ILogger.Severity.WARNING and _CUDA_NOISE not in message:
                    log._lines.append(message)

        log.logger = Logger()
        return log

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)

    def clear(self) -> None:
        self._lines.clear()
