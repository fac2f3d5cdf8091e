"""The data that networks are trained on, pixels or latents, and their preparation."""
