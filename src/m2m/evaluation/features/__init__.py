"""What networks and statistics read off pictures: one extractor a file, by name, and a cache by content."""
