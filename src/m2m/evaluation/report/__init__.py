"""What an evaluation found, for a reader: plots, Markdown and a page that opens offline."""
