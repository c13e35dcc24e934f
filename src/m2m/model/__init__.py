"""The two networks of the paper (section 5): Image-Set Attention, its context, and what feeds it."""
