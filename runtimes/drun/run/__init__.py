"""A folder of images: settings in, images out, resumable and shardable."""
