"""Whole steps on a device: the network's call, then one kernel for all that the loop does between two calls.

`step.cu` is that kernel, `walk` carries a batch through a table with it, and `cuda` is the device. An `Engine` is what
a runtime supplies: the network's call, on addresses of the device.
"""
