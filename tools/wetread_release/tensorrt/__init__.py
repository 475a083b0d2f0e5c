"""Will TensorRT take a model, and the engine itself: NVIDIA's own parser and compiler, on a GPU or on any CPU.

refusals   what is refused, why, and what to do
rules      what can be known from the ONNX file alone
profiles   smallest, best and largest shape of every input
libraries  which TensorRT is installed; for CPUs the libraries of TensorRT for RTX under TensorRT's names
child      the process that imports TensorRT; compiler is its other end
engine     parse and compile, in that process: the code that a GPU server runs too
builder    a plan for this machine, from the cache where one fits
plan       what a plan's first bytes say; plan_config its Triton configuration
preflight  all of it for one file, as a table
"""
