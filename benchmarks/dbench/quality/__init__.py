"""How far samples are from real images: plain numpy on feature vectors."""
