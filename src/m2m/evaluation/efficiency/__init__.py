"""What an image costs (section 8.6, figure 9): seconds, operations and memory, beside the same U-Net with text."""
