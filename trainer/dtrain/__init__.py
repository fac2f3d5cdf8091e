"""Train diffusion models in PyTorch."""
