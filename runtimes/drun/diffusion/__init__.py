"""The mathematics of diffusion, in float64 numpy: no files, no clocks, no PyTorch."""
