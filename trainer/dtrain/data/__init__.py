"""What a network is trained on: pixels or latents, and how they are prepared."""
