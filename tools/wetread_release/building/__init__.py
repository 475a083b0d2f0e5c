"""From a model.onnx to a draft: checked, in the wanted precision, on the engine that was measured to be the faster.

parent       the pipeline's stable release as a draft, of which only the network is replaced
check        does the file fit the pipeline, and does it run
calibration  the films that INT8 is calibrated with
timing       OpenVINO and ONNX Runtime on this machine, in turns
accelerators the execution accelerators of Triton's own backend
record       build.json
make         all of it, into a folder made new
"""
