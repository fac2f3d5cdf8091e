"""Sample diffusion models from a bundle, on any backend, without PyTorch."""
