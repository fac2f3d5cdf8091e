"""Measures how far samples are from real images, by plain numpy on feature vectors."""
