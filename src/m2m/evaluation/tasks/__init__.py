"""Fine-tuned tasks against their truth: what is asked of an image is known here, and what it should show is there."""
